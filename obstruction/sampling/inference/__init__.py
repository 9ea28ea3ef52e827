"""Statistical inference from counts and weighted samples: intervals, tests and verdicts.

It may import tools only. It must never know where a probability comes from.
"""
