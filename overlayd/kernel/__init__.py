"""The kernel of this host: the only package that uses netlink, nftables, sysctls and network namespaces.

`port` is its face, which `linux` implements with the rooms below. Values of `overlayd.dataplane` go in and come out;
the rooms decide nothing about networks.
"""
