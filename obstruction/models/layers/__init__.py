"""The search for fully connected layers among tensors: their names, orientations and order.

Its modules may import the contents and the operations that readers return, the activations, and the
options of a user. They must never know a file format or a framework.
"""
