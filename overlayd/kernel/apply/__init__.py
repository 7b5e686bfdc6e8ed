"""Executing plans.

Operations go to the kernel in batches, through sockets that are kept for each namespace; each kind of item has one
executor. A failed operation fails only those that depend on it. executor.py executes any plan, and endpoints.py those
of several new endpoints together.
"""
