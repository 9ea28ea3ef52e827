"""Keras: models in memory and files in HDF5, in any of its versions.

Its modules may import operations, contents and the shared readers of archives. They must never
import Keras unless an object already is of it.
"""
