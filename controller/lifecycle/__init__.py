"""The life of a store.

What the first controller makes in it, its backup file, and how a controller knows it again.
"""
