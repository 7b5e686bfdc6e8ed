"""Simulated hosts with a real agent, for the benchmarks that measure agents.

With a runtime and the plugins of a peer, or alone with a stub of the controller; and what a process costs.
"""
