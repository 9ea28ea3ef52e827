"""Probabilities that a random network on a graph has frozen weights: sampled, exact, compared.

Its modules may import the graph, what is frozen in it, topology, sampling, exact values, schemes
and tools. Its sampler must never know an exact value.
"""
