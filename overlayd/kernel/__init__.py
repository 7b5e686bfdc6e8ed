"""The kernel of this host: the only package that uses netlink, nftables, sysctls and network namespaces."""
