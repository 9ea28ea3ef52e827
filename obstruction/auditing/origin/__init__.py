"""The origin of weights: the schemes they fit, and how usual their pathological neurons are.

Its modules may import models, exact values, schemes and tools. They must never know what an audit
reports or how a network is repaired.
"""
