"""PyTorch: modules in memory, traced, and files of weights, read without PyTorch.

It may import operations, contents and the shared readers of archives. It must never import PyTorch
unless an object already is of it, and it must never execute a pickle.
"""
