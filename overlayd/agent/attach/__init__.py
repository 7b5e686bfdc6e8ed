"""Attaching a workload to a network and detaching it: the one way that every runtime takes, whatever it speaks.

The rooms of the runtimes translate to this one; it chooses addresses, plans, applies and answers. Its face is
`Attachments` (attachments.py) with its requests and results (request.py), and `Addressing` for what only asks whether
an address is free. What a runtime tells of a container is the request's `Workload`, which says by which way it came.
"""
