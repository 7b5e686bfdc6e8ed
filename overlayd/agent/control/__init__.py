"""The control socket: requests of the host's administrator to the running agent, and both ends of it."""
