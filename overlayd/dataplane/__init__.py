"""The dataplane as values: what the kernel should hold, what it holds, and the plan from one to the other. Pure."""
