"""The control socket: what the administrator of a host asks the running agent, and both ends of asking it."""
