"""The desired state: what the kernel of one host should hold, computed network by network from the records. Pure."""
