"""The only place that touches netlink, sysctls and network namespaces."""
