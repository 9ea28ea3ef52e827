"""Draw random networks and count the obstructed ones, or sum the moments of weighted samples.

The interface says what a sampler is, and the runner counts with any sampler on threads. The modules
of this wing may import schemes and tools. They must never know an exact value, so that the counts
can check the formulas.
"""
