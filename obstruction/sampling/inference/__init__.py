"""Statistical inference from counts and weighted samples: intervals, tests and verdicts.

Its modules may import tools only. They must never know where a probability comes from.
"""
