"""Rare events: weighted samples of neurons too rarely pathological to be counted.

Its modules may import the interface and the runner of samplers, the tilted kernels, inference,
schemes and tools. They must never know an exact value, nor the samplers that count networks.
"""
