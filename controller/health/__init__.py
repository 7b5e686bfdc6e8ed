"""How the cluster is.

What is running out, what is not in force, whether the store takes writes. Nothing here changes the intent.
"""
