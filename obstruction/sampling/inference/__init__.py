"""What counts and weighted samples say: intervals, tests, and a verdict on given probabilities.

It may import tools only. It must never know where a probability comes from.
"""
