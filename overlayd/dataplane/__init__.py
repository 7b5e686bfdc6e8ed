"""The dataplane as values: desired and observed state of the kernel, and the plan from one to the other. Pure."""
