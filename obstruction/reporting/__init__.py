"""Presentations of results: heatmaps, tables to cite, and the HTML page of a study.

Its modules may import studies and everything below them. They must never draw a network, nor know
of commands or their options.
"""
