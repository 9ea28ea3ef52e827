"""The probability of frozen weights in fresh networks on a graph, sampled and exact.

Its modules may import the graph, what is frozen in it, sampling, exact values and schemes. Its
sampler must never know an exact value.
"""
