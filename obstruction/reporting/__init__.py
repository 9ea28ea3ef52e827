"""What people look at: heatmaps, tables to cite, and the page of a study.

It may import studies and everything below them. It must never draw a network, nor know of commands
or their options.
"""
