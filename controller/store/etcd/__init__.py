"""The etcd client of the store: connections, transactions that survive a lost answer, leases and a watch that resumes.

`store` implements the port of `controller.store`; the messages are generated from `rpc.proto` (`make proto`).
"""
