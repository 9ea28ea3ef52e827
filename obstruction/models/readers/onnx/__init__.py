"""The reader of ONNX files, which hold a graph of operations and its tensors.

Its modules may import operations, contents, activations, the shared reading of files, and tools.
They must never import a framework other than onnx, and that only to read a file.
"""
