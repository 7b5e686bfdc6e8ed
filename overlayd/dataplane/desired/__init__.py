"""The desired state: what the kernel of one host should hold, computed network by network from the records. Pure.

`resolve` is the entrance. Parts whose inputs are the same objects as before are reused, so that the cost of a change
follows the change.
"""
