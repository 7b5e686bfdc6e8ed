"""The file of variables that a unit may have: what it sets goes first, so nothing else can be written past it."""

from pathlib import Path

import pytest

from overlayd.configuration import environment_file
from overlayd.configuration.file_changes import FileChanges, check_environment_file
from overlayd.configuration.schema import Schema, Setting
from overlayd.model.errors import InvalidValue


def test_variables_are_read_as_systemd_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "agent.env"
    path.write_text('# A=1\n;B=2\nC=3\n D = "4 and 5" \nE=\'6\'\nF=\nG=7 8\nnothing\nH="open\n9=1\n')
    assert environment_file.read(path) == {"C": "3", "D": "4 and 5", "E": "6", "F": "", "G": "7 8"}
    assert environment_file.read(tmp_path / "missing") == {}


def test_what_a_variable_says_cannot_be_written(tmp_path: Path) -> None:
    schema = Schema("OVERLAYD", tmp_path / "agent.toml", (Setting("name"), Setting("vtep")))
    (tmp_path / "agent.env").write_text("OVERLAYD_VTEP=10.0.0.1\n")
    check_environment_file(schema, {"name"})
    (tmp_path / "agent.env").write_text("OVERLAYD_VTEP=10.0.0.1\nOVERLAYD_NAME=\n")
    check_environment_file(schema, {"name"})
    with pytest.raises(
        InvalidValue, match=r"OVERLAYD_VTEP: is set in .*agent\.env, which takes precedence over .*agent\.toml"
    ):
        check_environment_file(schema, {"name", "vtep"})
    (tmp_path / "agent.env").write_text("OVERLAYD_CONFIG=/run/other.toml\n")
    with pytest.raises(InvalidValue, match=r"OVERLAYD_CONFIG: is set in .*agent\.env"):
        check_environment_file(schema, {"name"})


def test_what_stands_there_already_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    assert not FileChanges(path, {}).write()
    assert not path.exists()
    assert FileChanges(path, {"name": "a"}).write()
    before = path.stat().st_ino
    assert not FileChanges(path, {"name": "a"}).write()
    assert path.stat().st_ino == before


def test_a_file_on_trial_is_put_back_when_what_is_done_with_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    for before in (None, '# mine\nname = "a"\n'):
        if before is not None:
            path.write_text(before)
        with pytest.raises(KeyboardInterrupt), FileChanges(path, {"name": "b"}).on_trial() as changed:  # noqa: PT012
            assert changed
            assert 'name = "b"' in path.read_text()
            raise KeyboardInterrupt
        assert (path.read_text() if path.exists() else None) == before
    with FileChanges(path, {"name": "b"}).on_trial():
        pass
    assert path.read_text() == '# mine\nname = "b"\n'
