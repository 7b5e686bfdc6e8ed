"""The host agent: follows the feed, makes the kernel match the desired state, and attaches workloads."""
