"""The weights that gradient flow can reach: frozen edges, components, paths and singularities.

Its modules may import the graph, topology and tools. They must never know of initialisations or of
probabilities.
"""
