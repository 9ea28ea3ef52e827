"""Readers of PyTorch: modules in memory are traced, files of weights are read without PyTorch.

Its modules may import operations, contents and the shared readers of archives. They must never
import PyTorch unless an object already is of it, and they must never execute a pickle.
"""
