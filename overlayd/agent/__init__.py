"""The host agent: follows the feed, keeps the kernel as desired, and attaches workloads."""
