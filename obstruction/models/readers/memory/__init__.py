"""Readers of Python objects: arrays, trees of parameters, and scikit-learn's networks.

Its modules may import contents and operations. They must never import a framework unless an object
already is of it.
"""
