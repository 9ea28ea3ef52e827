"""What counts and weighted samples say: intervals, tests, and a verdict on given probabilities.

Its modules may import tools only. They must never know where a probability comes from.
"""
