"""`overlayctl history` at a real controller, over changes of thousands of objects."""

from collections.abc import Iterator
from typing import Any

import pytest

from overlayd.model.errors import InvalidValue
from tests.support.controllers.lone_controller import controller
from tests.support.controllers.terminal import Terminal

ENDPOINTS = 1200


@pytest.fixture(scope="module")
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Terminal]:
    """Network blue with two ranges, the second of them added later, and a host with a thousand endpoints and more."""
    with controller(tmp_path_factory.mktemp("controller") / "store.db") as running:
        terminal = Terminal(running.api)
        terminal.type("network", "create", "blue", "--range", "10.32.0.0/16", "--block-length", "20")
        terminal.type("network", "add-range", "blue", "10.64.0.0/16")
        body = {"name": "rack1-07", "address": "192.0.2.7", "instance": "i"}
        running.api.put("/v1/hosts/h7", json=body).raise_for_status()
        running.api.post("/v1/networks/blue/blocks", json={"host": "h7"}).raise_for_status()
        endpoints = [
            {
                "network": "blue",
                "container_id": f"c{number}",
                "interface": "eth0",
                "addresses": [f"10.32.{(number + 2) // 256}.{(number + 2) % 256}"],
                "mac": f"02:00:00:00:{number // 256:02x}:{number % 256:02x}",
                "sandbox": f"/run/netns/c{number}",
            }
            for number in range(ENDPOINTS)
        ]
        running.api.put("/v1/hosts/h7/endpoints", json={"endpoints": endpoints}).raise_for_status()
        yield terminal


def asked(terminal: Terminal, *arguments: str) -> dict[str, Any]:
    found = terminal.json("history", *arguments)
    assert isinstance(found, dict)
    return found


def test_more_is_shown_than_one_page_holds(terminal: Terminal) -> None:
    found = asked(terminal, "--kind", "endpoint", "--limit", str(ENDPOINTS + 1))
    names = [change["after"]["container_id"] for change in found["items"]]
    assert len(names) == len(set(names)) == ENDPOINTS
    assert found["complete_since"] is None
    assert len(asked(terminal, "--kind", "endpoint", "--limit", "777")["items"]) == 777


def test_the_past_is_shown_whole(terminal: Terminal) -> None:
    found = asked(terminal, "--kind", "endpoint", "--at", "0s ago")
    assert len({item["object"]["container_id"] for item in found["items"]}) == ENDPOINTS
    assert found["complete"]
    assert asked(terminal, "--at", "1h ago")["items"] == []


def test_who_changed_a_network_and_how(terminal: Terminal) -> None:
    shown = terminal.type("history", "--network", "blue", "--kind", "network", "--since", "10m ago")
    assert "anonymous" in shown
    assert "pools: 10.32.0.0/16 20 → 10.32.0.0/16 20 10.64.0.0/16" in " ".join(shown.split())
    made, changed = reversed(asked(terminal, "--network", "blue", "--kind", "network")["items"])
    assert made["after"] == changed["before"]
    then = asked(terminal, "--network", "blue", "--kind", "network", "--at", made["time"])
    assert [item["object"] for item in then["items"]] == [made["after"]]


def test_the_block_in_which_an_address_lies_is_told_with_who_has_it(terminal: Terminal) -> None:
    found = asked(terminal, "--address", "10.32.1.7", "--at", "0s")
    found_kinds = [(item["kind"], item["object"].get("container_id")) for item in found["items"]]
    assert found_kinds == [("block", None), ("endpoint", "c261")]
    assert all(item["object"]["host"] == "h7" for item in found["items"])


def test_a_host_is_found_by_its_name(terminal: Terminal) -> None:
    kinds = {change["kind"] for change in asked(terminal, "--host", "rack1-07")["items"]}
    assert kinds >= {"endpoint"}
    assert asked(terminal, "--host", "rack1-07", "--kind", "block")["items"]


@pytest.mark.parametrize("nonsense", ["yesterday", "ago", "m", "10y ago", "1e400s", "-", ""])
def test_what_is_no_time_is_refused(terminal: Terminal, nonsense: str) -> None:
    with pytest.raises(InvalidValue, match="is not a time") as refused:
        terminal.type("history", "--since", nonsense)
    assert refused.value.field == "--since"


@pytest.mark.parametrize(("path", "more"), [("/v1/history", {}), ("/v1/history/at", {"time": "2100-01-01T00:00:00Z"})])
def test_a_page_says_what_the_next_one_is(terminal: Terminal, path: str, more: dict[str, str]) -> None:
    wanted = {"kind": "endpoint", "limit": "500", **more}
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = terminal.api.get(path, params={**wanted, **after}).raise_for_status().json()
        seen += [str(item.get("object") or item.get("after")) for item in page["items"]]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert len(seen) == len(set(seen)) == ENDPOINTS
    wrong = terminal.api.get(path, params={**wanted, "after": "nonsense"})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "after")
