"""How changes are written to the store.

A service makes a draft from the mirror. The journal commits it by compare-and-swap together with its entry in the
history, groups it with others that wait, and asks for a new draft after a conflict.
"""
