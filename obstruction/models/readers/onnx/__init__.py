"""ONNX files: a graph of operations and its tensors.

It may import operations, contents and tools. It must never import a framework other than onnx, and
that only to read a file.
"""
