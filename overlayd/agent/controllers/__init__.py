"""The agent as a client of the controllers.

Who it is, whom it trusts, the feed that it follows, and what it tells them. Everything else in the agent reads the
cluster from the feed here. Nothing in this room looks at the kernel.
"""
