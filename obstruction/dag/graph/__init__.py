"""Directed acyclic graphs: nodes, edges, their order, and their names in messages.

Its modules may import topology and tools. They must never know of weights drawn at random, of
models, or of what is frozen.
"""
