"""What this host owns in the cluster for its endpoints, and what it publishes.

Blocks, reservations, shared addresses, endpoints. This room requests them from the controllers, and gives back what no
endpoint needs.
"""
