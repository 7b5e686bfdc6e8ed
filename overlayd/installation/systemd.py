"""Telling systemd that units came, changed or went, where it is the machine's."""

import subprocess
from collections.abc import Iterable
from pathlib import Path

from overlayd.model.errors import Unavailable

RUNNING = Path("/run/systemd/system")
"""Is there when systemd is the machine's (sd_booted(3))."""

SYSTEMCTL = "systemctl"


def tell(commands: Iterable[tuple[str, ...]]) -> None:
    """Run systemctl with each of these arguments, where systemd runs; raises `Unavailable` with what it says."""
    if not RUNNING.is_dir():
        return
    for arguments in commands:
        done = subprocess.run([SYSTEMCTL, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Unavailable(f"systemctl {' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
