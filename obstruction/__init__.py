"""The probability that a ReLU network's initialisation already obstructs its training."""
