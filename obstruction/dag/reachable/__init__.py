"""What gradient flow can reach from given weights: frozen edges, paths, components, singularities.

Its modules may import the graph and topology. They must never know of initialisations or of
probabilities.
"""
