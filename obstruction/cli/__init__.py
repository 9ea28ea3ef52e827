"""The command line, which parses arguments, calls the package and prints the results.

Its modules may import every other wing, and each command imports what it needs when it runs. Only
this wing prints and exits, and only its commands show progress without being asked. It must never
compute a result that Python users cannot get.
"""

from obstruction.cli import dag, laws, merging, networks, reports, schemes, studies, tables, wild
from obstruction.cli.base import cli, main

__all__ = [
    "cli",
    "dag",
    "laws",
    "main",
    "merging",
    "networks",
    "reports",
    "schemes",
    "studies",
    "tables",
    "wild",
]
