"""Benchmarks: one module for each budget, run by `make bench`; README.md has the conditions and the figures.

A module measures and returns values; `report` and `table` write them down. Peers are measured in the same run.
"""
