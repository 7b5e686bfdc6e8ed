"""What the credential of a host that was taken over does at a real controller over TLS: docs/security.md's table."""

import json
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from controller.api.http.permissions import NEEDS
from overlayd.wire.feed import InSync, decode_line
from tests.integration.api.test_abuse import raw
from tests.support.controllers.api import HOST, assert_problem
from tests.support.controllers.secure import SecureController, secure_controller
from tests.support.lab.processes import eventually

NETWORK = {"name": "blue", "pools": [{"range": "10.32.0.0/16"}], "topology": "switched"}
SMALL = {"name": "small", "pools": [{"range": "10.40.0.0/26", "block_length": 28}]}
BLOCKS_OF_SMALL = 4
TOKEN_MAX = 256
"""Connections that a token has at most: controller/server/bounds.py."""

READ_BY_HOSTS = {"/v1/networks", "/v1/networks/{name}", "/v1/networks/{name}/capacity"} | {
    f"/v1/networks/{{name}}/reservations{rest}" for rest in ("", "/{reservation}")
}


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureController]:
    with secure_controller(tmp_path_factory.mktemp("secure")) as running:
        admin = running.client(running.admin)
        for network in (NETWORK, SMALL):
            assert admin.post("/v1/networks", json=network).is_success
        yield running


class Host:
    """A host, and what has its credential."""

    def __init__(self, controller: SecureController, name: str, address: str) -> None:
        self.name = name
        self.credential = controller.joined(name)
        self.api = controller.client(self.credential)
        self.body = {**HOST, "name": name, "address": address}
        assert self.api.put(f"/v1/hosts/{name}", json=self.body).is_success

    def block(self, network: str, *held: str) -> httpx.Response:
        body = {"host": self.name, "held": list(held), "family": 4}
        return self.api.post(f"/v1/networks/{network}/blocks", json=body)

    def publish(self, container: str, address: str, mac: str) -> Mapping[str, object]:
        """Publish an endpoint in blue; return why it is refused, or nothing."""
        endpoint = {
            "network": "blue",
            "container_id": container,
            "interface": "eth0",
            "addresses": [address],
            "mac": mac,
            "sandbox": "/run/netns/c",
        }
        answer = self.api.post(f"/v1/hosts/{self.name}/endpoints", json={"puts": [endpoint]})
        assert answer.is_success, answer.text
        refused = answer.json()["refused"]
        return dict(refused[0]) if refused else {}


@pytest.fixture(scope="module")
def honest(controller: SecureController) -> Host:
    return Host(controller, "honest", "192.0.2.1")


@pytest.fixture(scope="module")
def taken(controller: SecureController) -> Host:
    return Host(controller, "taken", "192.0.2.2")


def test_it_registers_at_no_address_of_another_host_and_at_any_that_is_free(
    controller: SecureController, honest: Host, taken: Host
) -> None:
    def addresses() -> list[str]:
        listed = controller.client(controller.admin).get("/v1/hosts").json()["items"]
        return [each["address"] for each in listed if each["id"] in {honest.name, taken.name}]

    answer = taken.api.put("/v1/hosts/taken", json={**taken.body, "address": "192.0.2.1"})
    assert_problem(answer, 409, "already-exists", "address")
    assert_problem(taken.api.put("/v1/hosts/honest", json=taken.body), 403, "forbidden", None)
    assert taken.api.put("/v1/hosts/taken", json={**taken.body, "address": "198.51.100.7"}).is_success
    assert addresses() == ["192.0.2.1", "198.51.100.7"]
    assert taken.api.put("/v1/hosts/taken", json=taken.body).is_success
    assert addresses() == ["192.0.2.1", "192.0.2.2"]


def test_it_publishes_no_address_and_no_mac_of_another_host(
    controller: SecureController, honest: Host, taken: Host
) -> None:
    blocks = [str(host.block("blue").json()["cidr"]) for host in (honest, taken)]
    theirs, own = (
        f"{block.rpartition('.')[0]}.{int(block.rpartition('.')[2].partition('/')[0]) + 9}" for block in blocks
    )
    assert honest.publish("victim", theirs, "02:00:00:00:00:01") == {}
    assert "is in no block" in str(taken.publish("liar", theirs, "02:00:00:00:00:02"))
    assert "is the MAC of container victim" in str(taken.publish("liar", own, "02:00:00:00:00:01"))
    assert "devices of overlayd itself" in str(taken.publish("liar", own, "02:6f:76:00:00:01"))
    key = {"network": "blue", "container_id": "victim", "interface": "eth0"}
    assert taken.api.post("/v1/hosts/taken/endpoints", json={"deletes": [key]}).is_success
    assert taken.api.put("/v1/hosts/taken/endpoints", json={"endpoints": []}).is_success
    listed = controller.client(controller.admin).get("/v1/endpoints", params={"network": "blue"}).json()["items"]
    assert [(each["host"], each["addresses"]) for each in listed] == [("honest", [theirs])]


def test_it_gives_back_no_block_of_another_host(controller: SecureController, honest: Host, taken: Host) -> None:
    block = honest.block("blue").json()["cidr"]
    path = f"/v1/networks/blue/blocks/{block}"
    assert_problem(taken.api.delete(path, params={"host": "honest"}), 403, "forbidden", None)
    assert_problem(taken.api.delete(path, params={"host": "taken"}), 422, "invalid-value", "host")
    listed = controller.client(controller.admin).get("/v1/blocks", params={"host": "honest"}).json()["items"]
    assert block in [each["cidr"] for each in listed]


def test_it_takes_every_free_block_until_it_is_drained(controller: SecureController, honest: Host, taken: Host) -> None:
    held: list[str] = []
    while (answer := taken.block("small", *held)).is_success:
        held.append(answer.json()["cidr"])
    assert_problem(answer, 409, "exhausted", None)
    assert len(held) == BLOCKS_OF_SMALL
    assert_problem(honest.block("small"), 409, "exhausted", None)
    admin = controller.client(controller.admin)
    assert admin.patch("/v1/hosts/taken", json={"state": "draining"}).is_success
    assert taken.api.delete(f"/v1/networks/small/blocks/{held[0]}", params={"host": "taken"}).is_success
    assert_problem(taken.block("small", *held[1:]), 409, "in-use", "host")
    assert admin.patch("/v1/hosts/taken", json={"state": "active"}).is_success


def test_it_takes_any_reservation_and_the_history_says_so(
    controller: SecureController, honest: Host, taken: Host
) -> None:
    admin = controller.client(controller.admin)
    assert admin.post("/v1/networks/blue/reservations", json={"name": "db"}).is_success
    claim = "/v1/networks/blue/reservations/db/claim"
    for host in (honest, taken):
        body = {"host": host.name, "container_id": f"db-{host.name}", "interface": "eth0"}
        assert host.api.post(claim, json=body).is_success
    assert_problem(taken.api.post(claim, json={"host": "honest", "container_id": "db"}), 403, "forbidden", None)
    assert admin.get("/v1/networks/blue/reservations/db").json()["holder"]["host"] == "taken"
    last = admin.get("/v1/history").json()["items"]
    assert "db-taken" in json.dumps(last)
    assert_problem(taken.api.delete("/v1/networks/blue/reservations/db"), 403, "forbidden", None)


def test_it_reads_networks_and_nothing_of_other_hosts(taken: Host) -> None:
    answers = {}
    for route in NEEDS:
        method, _, path = route.partition(" ")
        if method == "GET" and path.startswith(("/v1/", "/metrics")) and path not in {"/v1/ca", "/v1/whoami"}:
            query = {"host": "honest", "instance": "i"} if path == "/v1/feed" else {}
            place = path.replace("{name}", "blue").replace("{id}", "honest").replace("{reservation}", "none")
            answers[path] = taken.api.get(place, params=query).status_code
    assert {path for path, status in answers.items() if status != 403} == READ_BY_HOSTS


def test_what_it_reports_is_its_own_word_alone(controller: SecureController, honest: Host, taken: Host) -> None:
    admin = controller.client(controller.admin)
    params = {"host": "taken", "instance": taken.body["instance"]}
    with taken.api.stream("GET", "/v1/feed", params=params) as stream:
        lines = stream.iter_lines()
        while not isinstance(decode_line(next(lines).encode()), InSync):
            pass
        report = {"instance": taken.body["instance"], "revision": 10**9, "problems": []}
        assert_problem(taken.api.post("/v1/hosts/honest/report", json=report), 403, "forbidden", None)
        taken.api.post("/v1/hosts/taken/report", json=report)
        lags = {each["host"]: each["lag"] for each in admin.get("/v1/convergence").json()["hosts"]}
    assert lags[honest.name] == "not connected", "it says nothing for others"


def test_its_requests_do_not_keep_others_waiting(honest: Host, controller: SecureController, taken: Host) -> None:
    is_over = threading.Event()

    def flood(_: int) -> None:
        client = controller.client(taken.credential)
        while not is_over.is_set():
            assert client.get("/v1/networks").is_success

    with ThreadPoolExecutor(8) as pool:
        floods = [pool.submit(flood, number) for number in range(8)]
        try:
            for _ in range(20):
                assert honest.api.put("/v1/hosts/honest", json=honest.body).is_success
        finally:
            is_over.set()
        for each in floods:
            each.result()


def test_it_holds_a_bounded_number_of_connections(honest: Host, controller: SecureController, taken: Host) -> None:
    request = f"GET /v1/whoami HTTP/1.1\r\nHost: c\r\nAuthorization: Bearer {taken.credential}\r\n\r\n".encode()
    with ExitStack() as open_connections:
        made = [open_connections.enter_context(raw(controller)) for _ in range(2)]
        for connection in made:
            connection.sendall(request)
            assert connection.recv(12) == b"HTTP/1.1 200"
        for _ in range(TOKEN_MAX):
            connection = open_connections.enter_context(raw(controller))
            connection.sendall(request)
            assert connection.recv(12) == b"HTTP/1.1 200"

        def is_ended() -> bool:
            made[0].settimeout(30)
            while made[0].recv(65536):
                pass
            return True

        eventually(is_ended, "its oldest connection is ended")
        assert honest.api.get("/v1/networks").is_success


def test_it_ends_with_its_credential(controller: SecureController) -> None:
    late = Host(controller, "late", "192.0.2.3")
    admin = controller.client(controller.admin)
    assert admin.delete(f"/v1/tokens/{late.credential.split('_')[1]}").is_success
    assert_problem(late.block("blue"), 401, "unauthenticated", None)
    assert admin.delete("/v1/hosts/late").is_success
    assert "late" not in [each["id"] for each in admin.get("/v1/hosts").json()["items"]]
