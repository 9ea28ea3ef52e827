"""The repair of a network: neurons are rescaled so that nothing is frozen.

Its modules may import the report of an audit, models and topology. They must never change the
function that a network computes, nor know how its file is laid out.
"""
