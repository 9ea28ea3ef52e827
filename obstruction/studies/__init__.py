"""A sampled grid and what follows from it: table, verdict, results folder, replay.

Its modules may import the samplers, the exact values, the schemes and the tools. Here counts are
held against exact values. They must never draw pictures, print, or know how results are shown.
"""
