"""Executing a plan: operations in batches, one executor for each kind of item, the sockets that they go through."""
