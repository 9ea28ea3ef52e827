"""The repair of a network, which rescales neurons until no output weight is frozen.

The folder may import the report of an audit, models and topology. It must never change the function
that a network computes. It must never know how a file is written.
"""
