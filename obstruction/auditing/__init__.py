"""The audit of a real network: which weights are frozen, and what to do about it.

It may import models, topology, exact values and schemes. It must never sample, and it must never
know which file or framework a network came from.
"""
