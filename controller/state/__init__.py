"""The intent as it stands in the store.

Keys and values, the mirror in memory, and the journal through which it changes.
"""
