"""Joins that are interrupted and repeated."""

import json
import signal
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overlayd.agent.commands.join import join
from overlayd.agent.controllers import credential
from overlayd.agent.controllers.credential import load_identity
from overlayd.agent.controllers.trust import Trust
from overlayd.agent.program import app
from overlayd.model.errors import AlreadyExists, Unauthenticated
from overlayd.model.ids import HostId
from overlayd.wire.credentials import CONTROLLER_NAME, parse_join_token
from tests.support.controllers.secure import SecureController, secure_controller
from tests.support.lab.lab import CommandFailed, Lab
from tests.support.lab.service_manager import ServiceManager


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureController]:
    with secure_controller(tmp_path_factory.mktemp("secure")) as running:
        yield running


def lose_answer(controller: SecureController, token: str, host: str) -> None:
    """Let a host join that never hears of it."""
    answer = controller.client(None).post("/v1/join", json={"token": token, "host": host})
    assert answer.status_code == 201, answer.text


def register(controller: SecureController, token: str, host: str, address: str) -> None:
    body = {"name": host, "address": address, "instance": "first"}
    answer = controller.client(token).put(f"/v1/hosts/{host}", json=body)
    assert answer.is_success, answer.text


def left(controller: SecureController, token: str) -> int:
    """Return how many hosts can join with a token yet."""
    return int(controller.client(controller.admin).get(f"/v1/tokens/{token.split('_')[1]}").json()["hosts"])


@pytest.mark.parametrize("hosts", [1, 2])
def test_a_host_that_lost_the_answer_joins_until_it_has_registered(controller: SecureController, hosts: int) -> None:
    host = HostId(f"lost-{hosts}")
    token = controller.make(kind="join", hosts=hosts)
    lose_answer(controller, token, host)
    got = join([controller.url], parse_join_token(token), host)
    register(controller, got.token.text, host, f"192.0.2.{hosts}")

    with pytest.raises((AlreadyExists, Unauthenticated)):
        join([controller.url], parse_join_token(token), host)
    assert controller.client(got.token.text).get("/v1/whoami").json()["host"] == host
    assert left(controller, token) == hosts - 1


def test_a_join_that_was_given_up_at_a_frozen_controller_is_not_done_when_it_goes_on(
    controller: SecureController,
) -> None:
    """The host may have joined at another one meanwhile: its credential would be replaced without its knowledge."""
    token = controller.make(kind="join")
    body = json.dumps({"token": token, "host": "gone"})
    head = f"POST /v1/join HTTP/1.1\r\nHost: c\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    trust = Trust(controller.authority).context()
    connection = socket.create_connection(("127.0.0.1", controller.port), timeout=30)
    with trust.wrap_socket(connection, server_hostname=CONTROLLER_NAME) as given_up:
        controller.process.send(signal.SIGSTOP)
        given_up.sendall(f"{head}\r\n\r\n{body}".encode())
    controller.process.send(signal.SIGCONT)
    assert join([controller.url], parse_join_token(token), HostId("there")).controllers == (controller.url,)


NOWHERE = "https://127.0.0.1:1"


class Machine:
    """A machine that joins without a service, and has the files of its own for that."""

    def __init__(self, directory: Path, controller: SecureController) -> None:
        self.state, self.settings = directory / "state", directory / "agent.toml"
        self._controller = controller
        self.token = ""

    def join(self, *urls: str, fails: bool = False, **token: object) -> str:
        """Join with a new token; return what is printed."""
        options = ["--no-start", "--config", str(self.settings), "--state-dir", str(self.state)]
        self.token = self._controller.make(kind="join", **token)
        done = CliRunner().invoke(app, ["join", *urls, *options], input=self.token)
        assert done.exit_code == int(fails), done.output
        return done.output

    @property
    def host(self) -> str:
        return load_identity(self.state).id

    @property
    def credential(self) -> credential.Credential:
        found = credential.load(self.state)
        assert found
        return found

    def work(self, address: str) -> None:
        """Register, as the agent does."""
        register(self._controller, self.credential.token.text, self.host, address)


@pytest.fixture
def machine(tmp_path: Path, controller: SecureController) -> Machine:
    return Machine(tmp_path, controller)


@pytest.mark.parametrize("damage", ["", "{}", '{"controllers": [], "token": "ovt_x"}', "[" * 100])
def test_joining_replaces_a_damaged_credential(machine: Machine, controller: SecureController, damage: str) -> None:
    machine.state.mkdir(mode=0o700)
    path = machine.state / "credential.json"
    path.write_text(damage)
    assert "joined as host" in machine.join(controller.url)
    path.write_text(damage)
    assert "has joined already; a join token made for it" in machine.join(controller.url, fails=True)
    assert path.read_text() == damage
    assert "joined as host" in machine.join(controller.url, host=machine.host)
    assert machine.credential.controllers == (controller.url,)


def test_a_host_that_has_joined_takes_over_the_controllers(machine: Machine, controller: SecureController) -> None:
    machine.join(controller.url)
    machine.work("192.0.2.10")
    before = machine.credential
    shown = machine.join(NOWHERE, controller.url)
    assert f"has joined already; its controllers are now {NOWHERE}, {controller.url}" in shown
    assert machine.credential == replace(before, controllers=(NOWHERE, controller.url))
    assert "controllers are now" not in machine.join(NOWHERE, controller.url)


def test_a_host_that_has_joined_is_told_where_the_controller_has_moved(
    machine: Machine, controller: SecureController
) -> None:
    machine.join(controller.url)
    machine.work("192.0.2.11")
    before = replace(machine.credential, controllers=(NOWHERE,))
    credential.save(machine.state, before)
    assert f"its controllers are now {controller.url}" in machine.join(controller.url)
    assert machine.credential == replace(before, controllers=(controller.url,))


def test_controllers_elsewhere_in_the_settings_cost_no_token(machine: Machine, controller: SecureController) -> None:
    machine.settings.write_text(f'# ours\ncontroller = ["{NOWHERE}"]\n')
    shown = machine.join(controller.url, fails=True)
    assert f"{machine.settings}:2: controller: {NOWHERE} takes precedence and is none of the URLs of join" in shown
    assert left(controller, machine.token) == 1
    machine.settings.write_text(f'controller = ["{NOWHERE}", "{controller.url}/"]\n')
    assert "joined as host" in machine.join(controller.url)


def test_joining_sets_up_what_the_service_uses(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", hosts=1, secure=True) as lab, ServiceManager(lab, lab.hosts[0]) as machine:
        lab.start_controller()
        join = f"echo {lab.overlayctl('token', 'create', '--join').strip()} | overlayd join {lab.urls[0]}"
        machine.type("mkdir -p /etc/overlayd")
        for variables, options, refused in (
            (
                "OVERLAYD_STATE_DIR=/var/lib/x",
                "",
                "OVERLAYD_STATE_DIR: is /var/lib/x in /etc/overlayd/agent.env, where the",
            ),
            ("OVERLAYD_STATE_DIR=/var/lib/x", "--no-start", "OVERLAYD_STATE_DIR: is /var/lib/x in"),
            ("OVERLAYD_STATE_DIR=/var/lib/x", "--state-dir /var/lib/y", "OVERLAYD_STATE_DIR: is /var/lib/x in"),
            ("OVERLAYD_CONFIG=/var/lib/agent.toml", "", "OVERLAYD_CONFIG: is set in /etc/overlayd/agent.env"),
            ("", "--config /var/lib/agent.toml", "--config: the service reads /etc/overlayd/agent.toml, not"),
            (
                f"OVERLAYD_CONTROLLER={NOWHERE}",
                "",
                f"/etc/overlayd/agent.env: OVERLAYD_CONTROLLER: {NOWHERE} takes precedence",
            ),
        ):
            machine.type(f"echo '{variables}' >/etc/overlayd/agent.env")
            with pytest.raises(CommandFailed, match=f"overlayd: {refused}"):
                machine.type(f"{join} {options}")
        assert machine.starts == []
        tokens = json.loads(lab.overlayctl("token", "list", "--json"))
        assert [token["hosts"] for token in tokens if token["kind"] == "join"] == [1]

        machine.type("printf 'OVERLAYD_STATE_DIR=\\nOVERLAYD_CONFIG=\\n' >/etc/overlayd/agent.env")
        shown = machine.type(f"cd /var/lib && {join} --state-dir elsewhere")
        assert "the credential is in elsewhere/credential.json" in shown
        assert "in sync with a controller" in shown, "the agent found it"
        assert machine.type("cat /etc/overlayd/agent.toml") == 'state-dir = "/var/lib/elsewhere"\n'

        machine.type("echo OVERLAYD_STATE_DIR=/var/lib/elsewhere >/etc/overlayd/agent.env")
        assert "has joined already" in machine.type(f"{join} --state-dir /var/lib/elsewhere")
