"""Directed acyclic graphs: nodes, edges, their order, and their names in messages.

It may import topology and tools. It must never know of weights drawn at random, of models, or of
what is frozen.
"""
