"""One reader a format; each returns the same contents, whatever the format.

Its modules may import operations, contents and tools. They must never know an audit, and never
guess what their format does not say.
"""
