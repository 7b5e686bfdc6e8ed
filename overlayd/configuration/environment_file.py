"""The variables that systemd gives a service from a file (systemd.exec(5), `EnvironmentFile=`)."""

import re
import shlex
from pathlib import Path

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.ASCII)


def read(path: Path) -> dict[str, str]:
    """Return what the file sets, nothing if it is not there; raise `OSError` when it cannot be read.

    Values that go on in a further line are not understood, and left out like whatever else is no assignment.
    """
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    found = {}
    for line in lines:
        match = _ASSIGNMENT.fullmatch(line)
        if match:
            try:
                found[match[1]] = " ".join(shlex.split(match[2]))
            except ValueError:  # quotes that do not end
                continue
    return found
