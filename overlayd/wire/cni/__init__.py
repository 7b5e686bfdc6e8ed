"""The messages of CNI: requests and results of each version of the SPEC, and the conventions for capabilities. Pure.

Errors have the codes of the SPEC and name the field at fault. `overlayd.agent.cni` translates values to attachments.
"""
