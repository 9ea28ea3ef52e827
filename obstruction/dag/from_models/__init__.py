"""From models to graphs: a graph of operations or a list of edges becomes a network.

It may import `obstruction.dag.graph`, the network class and models. It must never decide what is
frozen.
"""
