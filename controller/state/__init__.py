"""The intent: the desired state of the cluster, as the store has it.

Keys and values, and the mirror of the store in memory. Only what reads belongs here; `controller.journal` writes.
"""
