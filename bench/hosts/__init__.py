"""Simulated hosts with a real agent: beside a runtime and the plugins of a peer, or with a stub for its controller."""
