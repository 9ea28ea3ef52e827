"""The graph of operations that a reader found, and the chains of layers that follow from it.

It may import what readers return. It must never know a file format or a framework.
"""
