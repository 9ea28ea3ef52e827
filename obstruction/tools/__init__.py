"""Small general tools, such as checks of arguments, parsing, atomic files and worker threads.

Its modules may import nothing else of the package. They must never know what a network is.
"""
