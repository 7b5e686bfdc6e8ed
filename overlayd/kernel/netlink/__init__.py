"""Netlink.

The transport, the messages that are sent, and what the dumps say, in the canonical form of desired items.
"""
