"""What goes on for as long as a reader stays.

The feed of a host, watches, and the snapshots with which they begin.
"""
