"""The agent as a client of the controllers.

Its identity, how it authenticates controllers, the feed that it follows, and its requests. Everything else in the agent
reads the cluster from the feed here. Nothing in this room looks at the kernel.
"""
