"""The desired state: what the kernel of one host should hold, computed for each network of its records. Pure."""
