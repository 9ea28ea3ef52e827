"""Models that are split into several files: the indices that list them, and parts without one.

Its modules may import the limits and views of files that readers share. They must never know a
format; `obstruction.models.reading` gives them the function that reads a part.
"""
