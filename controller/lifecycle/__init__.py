"""The life of a store.

Its bootstrap by the first controller, its backup file, and how a controller recognises it.
"""
