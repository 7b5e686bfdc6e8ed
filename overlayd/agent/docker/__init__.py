"""Docker's network driver and IPAM driver `overlayd`: HTTP on a socket in /run/docker/plugins.

This room only translates to `attach`. `server.py` answers the calls of libnetwork's remote drivers (moby,
daemon/libnetwork/docs/remote.md and ipam.md), by `network_driver.py` and `ipam_driver.py`. Docker never repeats
CreateNetwork, so which of our networks is behind which of Docker's is remembered (`docker_networks.py`). Nothing here
calls Docker: it waits for the answer, and may hold its locks.
"""
