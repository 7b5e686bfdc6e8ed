"""The control plane: any number of equal controllers on one store, with the API for hosts and administrators.

`main` reads settings and serves; the rooms are floors, from the API down to the store and the pure rules of identity.
Nothing here imports the agent, its view of the kernel, or the CNI plugin.
"""
