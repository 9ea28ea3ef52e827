"""Readers of Keras: models in memory and files that contain HDF5, of Keras 2 and Keras 3.

Its modules may import operations, contents and the shared readers of archives. They must never
import Keras unless an object already is of it.
"""
