"""Attaching a workload to a network and detaching it: the one way that every runtime takes, whatever it speaks.

The rooms of the runtimes translate to this one; it chooses addresses, plans, applies and answers.
"""
