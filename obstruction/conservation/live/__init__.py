"""Live models of PyTorch, JAX and Keras behind one interface, `LiveModel`.

A framework is imported only if it made the model. These modules may import
`obstruction.conservation.live` and `obstruction.tools`. They must never know what a law is.
"""
