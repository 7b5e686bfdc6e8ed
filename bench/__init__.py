"""Benchmarks: one module for each subject, run by `make bench`; README.md has the conditions and the figures.

A module measures and returns its cases; `reporting` has their budgets and writes the tables, `hosts` and `controllers`
are what is measured. Peers are measured in the same run.
"""
