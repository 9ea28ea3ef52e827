"""Small tools, each named for what it does: checks, parsing, whole files, words, the version.

Its modules may import nothing else of the package. They must never know what a network is.
"""
