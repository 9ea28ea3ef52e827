"""What gradient flow can reach from given weights: frozen edges, paths, components, singularities.

It may import the graph and topology. It must never know of initialisations or of probabilities.
"""
