"""Notices changes that others make to what is ours.

Netlink notifications and inotify become names of namespaces to look at.
"""
