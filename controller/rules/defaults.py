"""How long something rests, and how long hosts are waited for, unless the administrator chooses."""

QUARANTINE = 60
"""Seconds: caches of neighbours and connections that linger are gone after that."""

RECOVERY_TIME = 120
"""Seconds: hosts that run are back some seconds after the controllers."""
