"""Notices changes that others make to what is ours.

Netlink notifications and inotify events become names of namespaces to observe.
"""
