"""The commands of `overlayd` other than the daemon itself: install, join, plan, status, cleanup, netns.

Each reads its options, acts on this host or asks its agent, and reports errors in one line (`options`). What the agent
does when it is asked is not here.
"""
