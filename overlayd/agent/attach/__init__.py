"""Attaching a workload to a network and detaching it: the same steps for every runtime and its protocol.

The rooms of the runtimes translate to this one; it chooses addresses, plans, applies and answers. Its face is
`Attachments` (attachments.py) with its requests and results (request.py), and `Addressing` for what only asks whether
an address is free. What a runtime reports about a container is the request's `Workload`, which names the runtime.
"""
