"""Who may do what: the certificate authority, the roles, and tokens without their secrets. Pure."""
