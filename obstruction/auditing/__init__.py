"""The audit of a real network: which weights are frozen, and what to do about it.

Its modules may import models, topology, exact values, schemes and tools. They must never sample,
and they must never know which file or framework a network came from.
"""
