"""Readers of PyTorch: modules in memory are run, files of weights are read without PyTorch.

Its modules may import operations, layers, contents, activations, tools, and the shared readers of
files, archives and tensors in memory. They must never import PyTorch unless an object already is
of it, and they must never execute a pickle.
"""
