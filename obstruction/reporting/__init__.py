"""What people look at: heatmaps, tables to cite, and the page of a study.

Its modules may import studies and everything below them. They must never draw a network, nor know
of commands or their options.
"""
