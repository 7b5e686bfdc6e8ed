"""A controller whose clock is wrong: libfaketime moves the time of day, and leaves the monotonic clock alone."""

import os
from pathlib import Path

import httpx

from tests.integration.controllers.test_backups import BLUE
from tests.support.controllers.processes import LocalController
from tests.support.lab.lab import COMMANDS
from tests.support.lab.processes import Process, eventually


def test_a_controller_whose_clock_is_a_year_ahead_forgets_nothing(tmp_path: Path) -> None:
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    store = str(tmp_path / "store.db")
    first = LocalController("controller", tmp_path, "--store", store)
    first.start()
    for number in range(5):
        first.request("POST", "/v1/networks", {**BLUE, "name": f"n{number}"}).raise_for_status()
    first.stop()
    port = first.api_url.rpartition(":")[2]
    options = ["--insecure", "--store", store, "--listen", f"127.0.0.1:{port}", "--state-dir", str(tmp_path)]
    # Not by the command `faketime`: it stays between, and what it has started outlives it.
    moved = {"LD_PRELOAD": str(library), "FAKETIME": "+365d", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    command = [str(COMMANDS / "overlay-controller"), "run", *options]
    ahead = Process(command, tmp_path / "ahead.log", env={**os.environ, **moved})
    try:
        eventually(lambda: "nothing is forgotten before its time" in ahead.output, "it has tidied up")
        history = eventually(lambda: changes(first.api_url), "it answers")
        assert len(history) == 5
    finally:
        ahead.stop()


def changes(url: str) -> list[object]:
    """Return the history of networks; nothing while no controller answers."""
    try:
        answer = httpx.get(f"{url}/v1/history?kind=network", trust_env=False, timeout=5)
    except httpx.TransportError:
        return []
    found: list[object] = answer.raise_for_status().json()["items"]
    return found
