"""A revisioned key-value store with compare-and-swap, leases and watches.

`port` is its face; SQLite (`embedded`) and etcd implement it and pass one suite of tests. What the keys mean is not
known here.
"""
