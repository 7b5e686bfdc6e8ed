"""Noticing that somebody else changed what is ours.

Netlink notifications and inotify become names of namespaces to look at.
"""
