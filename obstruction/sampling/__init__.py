"""Drawing networks and counting: configurations in, additive integer counts out.

Its modules may import schemes and tools. They must never know an exact value, so that the counts
can check the formulas.
"""
