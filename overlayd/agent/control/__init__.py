"""The control socket: requests of the host's administrator to the running agent.

Both ends are here: the server in the agent, and the client for `overlayd plan`, `overlayd status` and `overlayctl`.
"""
