"""Whence the weights: the initialisation they look drawn from, and whether they are unlucky.

Its modules may import models, exact values and schemes. They must never know what an audit reports
or how a network is repaired.
"""
