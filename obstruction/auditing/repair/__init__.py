"""The repair of a network, which rescales neurons until no output weight is frozen.

Its modules may import the report of an audit, models and tools. They must never change the function
that a network computes, and they must never know how a file is written.
"""
