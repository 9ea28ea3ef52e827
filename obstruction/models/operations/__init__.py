"""The graph of operations that a reader found, and the chains of layers that follow from it.

Its modules may import what readers return. They must never know a file format or a framework.
"""
