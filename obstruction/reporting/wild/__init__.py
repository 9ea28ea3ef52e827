"""The figure and the page of a study of real architectures.

Its modules import `obstruction.studies.wild` and how figures are written. Nothing imports them but
commands and scripts.
"""
