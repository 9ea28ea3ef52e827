"""The report of a study: a single HTML file that needs no network.

>>> import obstruction as ob
>>> study = ob.sample("kaiming_normal", d=[2, 5, 10], l=[5, 10], networks=1000)
>>> path = ob.write_report(study, "report.html")  # doctest: +SKIP

Its modules may import studies, heatmaps, tables, schemes and tools. They must never draw a network,
and the page must never ask another server for anything.
"""

from obstruction.reporting.page.page import report_page, write_report
from obstruction.reporting.page.selection import MOST_CELLS

__all__ = ["MOST_CELLS", "report_page", "write_report"]
