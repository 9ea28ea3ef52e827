"""The report of a study: one HTML file that needs no network, to read, to search and to send on.

>>> import obstruction as ob
>>> study = ob.sample("kaiming_normal", d=[2, 5, 10], l=[5, 10], networks=1000)
>>> path = ob.write_report(study, "report.html")  # doctest: +SKIP

Its modules may import studies, heatmaps and tables. They must never draw a network, and the page
must never ask another server for anything.
"""

from obstruction.reporting.page.page import report_page
from obstruction.reporting.page.selection import MOST_CELLS
from obstruction.reporting.page.writing import write_report

__all__ = ["MOST_CELLS", "report_page", "write_report"]
