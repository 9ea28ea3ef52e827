"""Readers of Keras: models in memory and files that contain HDF5, of Keras 2 and Keras 3.

Its modules may import operations, contents, activations, the shared readers of files and archives,
and tools. They must never import Keras unless an object already is of it.
"""
