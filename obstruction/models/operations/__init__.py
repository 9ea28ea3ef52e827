"""Graphs of operations, and the chains of layers that follow from them.

It may import what readers return. It must never know a file format or a framework.
"""
