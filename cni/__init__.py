"""The CNI plugin: the launchers that container runtimes execute, and their installation.

`launcher.c` and `shim.py` forward a request to the agent's socket and relay its answer; both pass one suite of tests.
Nothing of ours is imported here, because a runtime executes the plugin with any Python and none of our packages.
"""
