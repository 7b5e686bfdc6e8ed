"""Streams, which last for as long as their reader is connected.

The feed of a host, watches, and the snapshots with which they begin; and what goes first while the event loop is busy:
requests, or lines of streams and the reports with which hosts answer them.
"""
