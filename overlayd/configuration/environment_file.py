"""Reads the environment file of a service (systemd.exec(5), `EnvironmentFile=`)."""

import re
import shlex
from pathlib import Path

_ASSIGNMENT = re.compile(r"\s*([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)", re.ASCII)


def read(path: Path) -> dict[str, str]:
    """Return the variables in the file, none if the file is missing; raise `OSError` when it cannot be read.

    A value that continues on the next line is ignored, like any line that is no assignment.
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
            except ValueError:  # an unterminated quote
                continue
    return found
