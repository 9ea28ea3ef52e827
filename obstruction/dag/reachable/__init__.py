"""The set that gradient flow can reach: its frozen edges, components, paths and singular points.

Its modules may import the graph and topology. They must never know of initialisations or of
probabilities.
"""
