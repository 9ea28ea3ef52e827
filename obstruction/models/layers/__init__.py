"""Which tensors are fully connected layers, how they are stored, and in which order they follow.

Its modules may import what readers return. They must never know a file format or a framework.
"""
