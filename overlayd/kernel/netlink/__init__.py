"""Netlink.

The transport, and the messages to the kernel; how its answers and dumps are read is in `decoding`.
"""
