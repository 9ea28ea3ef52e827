"""The report of a study: one HTML file that needs no network, to read, to search and to send on.

>>> import obstruction as ob
>>> study = ob.sample("kaiming_normal", d=[2, 5, 10], l=[5, 10], networks=1000)
>>> path = ob.write_report(study, "report.html")  # doctest: +SKIP
"""

from obstruction.study_report.page import report_page
from obstruction.study_report.selection import MOST_CELLS
from obstruction.study_report.writing import write_report

__all__ = ["MOST_CELLS", "report_page", "write_report"]
