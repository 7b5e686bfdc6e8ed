"""How long something rests, how long hosts are waited for, and what they may make, unless the administrator chooses."""

QUARANTINE = 60
"""Seconds: caches of neighbours and connections that linger are gone after that."""

RECOVERY_TIME = 120
"""Seconds: hosts that run are back some seconds after the controllers."""

HOST_NETWORKS = 0
"""Networks that each host may make: a host that was taken over makes none."""
