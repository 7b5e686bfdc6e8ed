"""Streams, which last for as long as their reader is connected.

The feed of a host, watches, and the snapshots with which they begin.
"""
