"""Attempts to attach a namespace while the agent ends and starts again."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from overlayd.agent.commands.netns import Attempts
from overlayd.agent.commands.unfinished_adds import UnfinishedAdd
from overlayd.agent.control import client
from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.wire.fields import Json

WANTED: dict[str, Json] = {"namespace": "web", "network": "blue", "interface": "eth0"}
GIVEN: dict[str, Json] = {"mac": "02:00:00:00:00:01"}
LISTED: dict[str, Json] = {"attachments": []}
ENDED = None
"""The agent ends before it answers."""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(client, "CONTROL_SOCKET", tmp_path / "control.sock")
    return client.CONTROL_SOCKET


@pytest.fixture
def note(tmp_path: Path) -> UnfinishedAdd:
    return UnfinishedAdd(tmp_path / ".web.adding")


@contextmanager
def agent(path: Path, *answers: dict[str, Json] | None) -> Iterator[list[str]]:
    """Answer one request after the other; yield the commands that came."""
    commands: list[str] = []
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for answer in answers:
                channel, _ = listener.accept()
                with channel:
                    with channel.makefile("rb") as request:
                        commands.append(json.load(request)["command"].removeprefix("netns-"))
                    if answer is not None:
                        channel.sendall(json.dumps(answer).encode())

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield commands
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_what_an_agent_may_have_attached_before_it_ended_is_withdrawn_before_the_next_attempt(
    path: Path, note: UnfinishedAdd
) -> None:
    with agent(path, LISTED, ENDED, {}, GIVEN) as commands:
        assert Attempts(WANTED, note, is_new=False).attached(wait=10).value == GIVEN
    assert commands == ["list", "attach", "withdraw", "attach"]


def test_what_cannot_be_attached_is_withdrawn_by_its_undoing(path: Path, note: UnfinishedAdd) -> None:
    with agent(path, LISTED, {"error": "--mac: is taken", "code": InvalidValue.code}, {}) as commands:
        attempts = Attempts(WANTED, note, is_new=False)
        with pytest.raises(InvalidValue):
            attempts.attached(wait=10)
        attempts.undo()
    assert commands == ["list", "attach", "withdraw"]


def test_what_was_attached_before_is_never_withdrawn(path: Path, note: UnfinishedAdd) -> None:
    before: dict[str, Json] = {"attachments": [{**WANTED, "mac": "02:00:00:00:00:09"}]}
    with agent(path, before, ENDED, before, {"error": "--interface: is attached"}) as commands:
        attempts = Attempts(WANTED, note, is_new=False)
        with pytest.raises(InvalidValue):
            attempts.attached(wait=10)
        attempts.undo()
    assert commands == ["list", "attach", "list", "attach"]


def test_what_was_attached_by_the_name_of_a_new_namespace_is_detached_first(path: Path, note: UnfinishedAdd) -> None:
    with agent(path, {"detached": []}, GIVEN) as commands:
        assert Attempts(WANTED, note, is_new=True).attached(wait=10).value == GIVEN
    assert commands == ["detach", "attach"]


def test_what_a_killed_command_attached_is_withdrawn_by_the_next_one(path: Path, note: UnfinishedAdd) -> None:
    other: dict[str, Json] = {**WANTED, "interface": "eth1"}
    with agent(path, LISTED, GIVEN, {}, LISTED, GIVEN) as commands:
        Attempts(other, note, is_new=False).attached(wait=10)
        Attempts(WANTED, note, is_new=False).attached(wait=10)
    assert commands == ["list", "attach", "withdraw", "list", "attach"]


def test_what_cannot_be_withdrawn_is_left_to_the_next_command(path: Path, note: UnfinishedAdd) -> None:
    with agent(path, LISTED, ENDED):
        attempts = Attempts(WANTED, note, is_new=False)
        with pytest.raises(Unavailable):
            attempts.attached(wait=0)
    attempts.undo()  # and no agent answers
    assert note.left()
    path.unlink()
    with agent(path, {}, LISTED, {"error": "--mac: is taken"}, {}) as commands:
        attempts = Attempts(WANTED, note, is_new=False)
        with pytest.raises(InvalidValue):
            attempts.attached(wait=10)
        attempts.undo()
    assert commands == ["withdraw", "list", "attach", "withdraw"]
    assert note.left() is None
