"""The weights that gradient flow can reach: frozen edges, components, paths and singularities.

Its modules may import the graph and topology. They must never know of initialisations or of
probabilities.
"""
