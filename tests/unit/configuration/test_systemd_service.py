"""Errors when systemd cannot do what it is asked."""

from pathlib import Path

import pytest

from overlayd.configuration.systemd_service import Service
from overlayd.model.errors import Unavailable

UNIT = Service("overlayd.service")


def stand_in(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with the commands that there are."""
    monkeypatch.setenv("PATH", str(tmp_path))
    stand_in(tmp_path, "journalctl", 'echo "its last words"')
    return tmp_path


def test_a_failure_has_the_services_last_words(commands: Path) -> None:
    stand_in(commands, "systemctl", 'echo "the job failed" >&2; exit 1')
    with pytest.raises(Unavailable) as refused:
        UNIT.restart()
    assert str(refused.value) == "`systemctl restart overlayd.service` failed:\nthe job failed\nits last words"


def test_nobody_waits_for_ever(commands: Path) -> None:
    stand_in(commands, "systemctl", "exec /bin/sleep 60")
    with pytest.raises(Unavailable) as refused:
        UNIT.restart(patience=0.1)
    assert str(refused.value).endswith(" has not finished after 0 s:\nits last words")


@pytest.mark.usefixtures("commands")
def test_without_systemctl_it_says_so() -> None:
    with pytest.raises(Unavailable, match="there is no systemctl"):
        UNIT.enable()


def test_what_is_asked_for_is_done(commands: Path) -> None:
    stand_in(commands, "systemctl", f'echo "$@" >>{commands}/asked')
    UNIT.enable()
    UNIT.restart()
    assert (commands / "asked").read_text() == "enable --quiet overlayd.service\nrestart overlayd.service\n"
