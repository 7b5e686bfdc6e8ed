"""Netlink.

The transport, the messages to the kernel, and decoding of dumps into the canonical form of desired items.
"""
