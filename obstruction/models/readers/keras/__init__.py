"""Keras: models in memory and files in HDF5, in any of its versions.

It may import operations, contents and the shared readers of archives. It must never import Keras
unless an object already is of it.
"""
