"""The dataplane as values: desired and observed state of the kernel, and the plan from one to the other. Pure.

`items` are the entries of the kernel's tables, `ownership` says which are ours, `diff` makes a plan, and `render`
prints it as commands. Only computation belongs here; `overlayd.kernel` observes and applies.
"""
