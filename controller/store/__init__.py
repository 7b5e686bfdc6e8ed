"""A revisioned key-value store with compare-and-swap, leases and watches: the port, SQLite, and etcd."""
