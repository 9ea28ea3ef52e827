"""A sampled grid and what follows from it: table, verdict, results folder, replay.

It may import the samplers, the exact values, the schemes and the tools; nowhere else do counts meet
exact values. It must never draw pictures, print, or know how results are shown.
"""
