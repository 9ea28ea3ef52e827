"""The readers of all formats, listed in `file_readers` and `object_readers`.

Every reader returns the same `Contents`, whatever its format. Readers may import operations,
contents, activations and tools. They must never know an audit, and never guess what their format
does not say.
"""
