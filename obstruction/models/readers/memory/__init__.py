"""Objects of Python: arrays, trees of parameters, scikit-learn's networks.

Its modules may import contents. They must never import a framework unless an object already is of
it.
"""
