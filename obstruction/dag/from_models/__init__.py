"""Convert a model (a graph of operations) or a list of edges to a network on a graph.

Its modules may import `obstruction.dag.graph`, the network class and models. They must never decide
what is frozen.
"""
