"""Joins that are interrupted and repeated."""

import json
import signal
import socket
from collections.abc import Iterator

import pytest

from overlayd.agent.join import join
from overlayd.agent.trust import Trust
from overlayd.model.errors import AlreadyExists, Unauthenticated
from overlayd.model.ids import HostId
from overlayd.wire.credentials import CONTROLLER_NAME, parse_join_token
from tests.support.secure import SecureController, secure_controller


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
    left = controller.client(controller.admin).get(f"/v1/tokens/{token.split('_')[1]}").json()["hosts"]
    assert left == hosts - 1


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
