"""overlayd: a VXLAN overlay network for container hosts.

The host side: agent, `overlayctl`, and the packages that they are made of. Controllers share `model`, `ipam`, `wire`,
`configuration` and `service`.
"""
