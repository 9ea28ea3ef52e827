"""Compiled kernels of the samplers: they take keys and arrays, fill arrays and validate nothing.

Its modules may import each other, the thresholds of a grid and the codes of laws. They must never
know of files, users or errors.
"""
