"""The command line: parse, call, print. Every command imports what it needs when it runs."""

from obstruction.cli import dags, networks, reports, studies, tables, values
from obstruction.cli.base import cli, main

__all__ = ["cli", "dags", "main", "networks", "reports", "studies", "tables", "values"]
