"""Stand-ins for commands that a test must not really run."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a shell script under the name of a command; return the directory, which belongs in front of PATH."""
    directory = tmp_path / "stand-ins"
    directory.mkdir()

    def write(name: str, script: str) -> Path:
        path = directory / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)
        return directory

    return write
