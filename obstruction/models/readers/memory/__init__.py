"""Objects of Python: arrays, trees of parameters, scikit-learn's networks.

It may import contents. It must never import a framework unless an object already is of it.
"""
