"""Identities and permissions: the certificate authority, roles, and tokens without their secrets. Pure."""
