"""Keras models in memory and in files, of Keras 2 and Keras 3.

It may import operations, contents and the shared readers of archives. It must never import Keras,
and it must never execute code that a file holds.
"""
