"""overlayd: a VXLAN overlay network for container hosts (the host side and the shared vocabulary)."""
