"""Networks of models: a graph of operations, or a list of edges, becomes a network of neurons.

It may import `obstruction.dag.graph`, the network class and models. It must never decide which
weights are frozen.
"""
