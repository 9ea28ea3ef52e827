"""Graphs of operations, and the chains of layers that follow from them.

Its modules may import what readers return. They must never know a file format or a framework.
"""
