"""The dataplane as values: the desired and the observed state of the kernel, and the plan between them. Pure."""
