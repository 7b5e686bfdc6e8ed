"""Why some mutants may survive: `explained/PACKAGE.toml` has groups of changes that make no difference to any user.

A change is written as the run prints it: function, former lines, new lines. A change that a test notices by now, or
that mutmut does not make any more, is out of date and fails the run.
"""

import tomllib
from pathlib import Path

DIRECTORY = Path(__file__).with_name("explained")


def read(package: str) -> dict[str, str]:
    """Return the reason for each change."""
    path = DIRECTORY / f"{package}.toml"
    if not path.exists():
        return {}
    groups = tomllib.loads(path.read_text())["explained"]
    return {change: group["why"] for group in groups for change in group["changes"]}
