"""Which tensors are fully connected layers, how they are stored, and in which order they follow.

It may import what readers return. It must never know a file format or a framework.
"""
