"""Drawing networks and counting: configurations in, additive integer counts out.

It may import schemes and tools. It must never know an exact value, so that its counts can check the
formulas.
"""
