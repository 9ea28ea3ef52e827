"""From models to graphs: a graph of operations or a list of edges becomes a network.

Its modules may import `obstruction.dag.graph`, the network class and models. They must never decide
what is frozen.
"""
