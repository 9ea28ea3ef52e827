"""Drawing networks and counting: frozen samplers in, additive counts or moments out.

Its interface says what a sampler is, and its runner counts with any of them on threads. It may
import schemes and tools. It must never know an exact value, so that its counts can check the
formulas.
"""
