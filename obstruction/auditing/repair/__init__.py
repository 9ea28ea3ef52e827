"""The repair of a network: neurons are rescaled so that nothing is frozen.

It may import the report of an audit, models and topology. It must never change the function that a
network computes, nor know how its file is laid out.
"""
