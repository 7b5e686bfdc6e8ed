"""The commands of `overlayd` beside the daemon itself: install, join, plan, status, cleanup, netns."""
