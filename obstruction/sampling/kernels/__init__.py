"""Compiled kernels: they take arrays, the state of a stream and an output, and validate nothing.

Its modules may import each other, the thresholds of a grid and the codes of laws. They must never
know of schemes, files, users or errors.
"""
