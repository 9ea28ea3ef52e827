"""The search for fully connected layers among tensors: their names, orientations and order.

The folder may import the contents that readers return and the options of a user. It must never know
a file format or a framework.
"""
