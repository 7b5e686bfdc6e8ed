"""The health of the cluster.

Resources that run out, revisions that are not in force, and whether the store takes writes. Nothing here changes the
intent.
"""
