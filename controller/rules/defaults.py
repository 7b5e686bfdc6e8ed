"""How long something rests, how long hosts are waited for, and what they may make, unless the administrator chooses."""

QUARANTINE = 60
"""Seconds: caches of neighbours and connections that linger are gone after that."""

RECOVERY_TIME = 120
"""Seconds: hosts that run are back some seconds after the controllers."""

HOST_BLOCKS = 256
"""Blocks of one family that a host may hold in one network: of the usual size they have room for 15,000 containers."""

HOST_NETWORKS = 0
"""Networks that each host may make: a host that was taken over makes none."""
