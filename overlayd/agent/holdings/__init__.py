"""What this host holds in the cluster for its endpoints, and publishes.

Blocks, reservations, shared addresses, endpoints. Claims go to the controllers here, and what is not needed is given
back.
"""
