"""Identities and permissions, as pure values and functions.

The certificate authority, the table of roles, and tokens without their secrets. How the store keeps them
is not known here.
"""
