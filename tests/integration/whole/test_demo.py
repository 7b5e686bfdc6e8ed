"""The demo as a stranger runs it, and the commands that it and the documentation print."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest

from tests.support.lab.lab import ROOT
from tests.support.lab.processes import eventually

DEMO = [sys.executable, "-m", "tests.demo"]


def demo(*arguments: str, keep: str = "") -> str:
    done = subprocess.run(
        [*DEMO, *arguments],
        cwd=ROOT,
        env={**os.environ, "KEEP": keep, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def removed_afterwards() -> Iterator[None]:
    yield
    demo("down")


def test_the_demo_shows_every_ping_and_removes_everything() -> None:
    shown = demo()
    assert "every ping was answered, nothing crossed" in shown
    assert "NO" not in shown.split()
    assert shown.count("no answer") == 0
    assert re.search(r"outer IP\s+10\.99\.0\.11 → 10\.99\.0\.13", shown)
    assert re.search(r"inner IP\s+10\.32\.0\.\d+ → 10\.32\.0\.\d+", shown)
    assert not (ROOT / "build/demo").exists()
    assert "to-host1" not in subprocess.run(["ip", "link"], capture_output=True, text=True, check=True).stdout


@pytest.mark.usefixtures("removed_afterwards")
def test_a_kept_demo_can_be_looked_at_with_the_printed_commands() -> None:
    shown = demo(keep="1")
    url = re.search(r"OVERLAY_CONTROLLER_URL=(\S+)", shown)
    assert url
    assert "openapi.json" in httpx.get(f"{url[1]}/docs", trust_env=False).text
    commands = [line.strip("│ ") for line in shown.splitlines() if "build/demo/on-" in line or ".venv/bin/" in line]
    assert len(commands) == 6
    for command in commands:
        ran = subprocess.run(
            ["sh", "-ec", command],
            cwd=ROOT,
            env={**os.environ, "OVERLAY_CONTROLLER_URL": url[1]},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, command + ran.stdout + ran.stderr
        assert ran.stdout
    assert (
        "nothing to do"
        in subprocess.run(
            ["build/demo/on-host1", "overlayctl", "plan"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    )
    again = subprocess.run(DEMO, cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stdout.split()[:8] == ["a", "demo", "that", "was", "kept", "still", "runs,", "and"]
    for block in printed_commands("docs/architecture.md"):
        done = subprocess.run(["sh", "-ec", block], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, block + done.stderr


def printed_commands(page: str) -> list[str]:
    """Return the commands for the demo's hosts that a page prints."""
    lines = (ROOT / page).read_text().splitlines()
    return [line for line in lines if line.startswith("build/demo/on-")]


def test_an_interrupted_demo_is_removed_and_says_so_in_one_line() -> None:
    running = subprocess.Popen(
        DEMO,
        cwd=ROOT,
        env={**os.environ, "KEEP": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    eventually((ROOT / "build/demo/host1/agent.log").exists, "the demo has come to its first agent")
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does
    shown, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert shown.splitlines()[-1] == "interrupted: the demo is removed"
    assert "Traceback" not in shown
    assert not (ROOT / "build/demo").exists()


def test_what_needs_root_says_so_before_anything_else() -> None:
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    for command in (DEMO, ["make", "demo"], ["make", "test"]):
        alone = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run([*as_nobody, *command], cwd=ROOT, env=alone, capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).strip().splitlines()
        assert done.returncode
        assert "needs root, for network namespaces" in said[0]
        assert len(said) <= 2, said  # make names its target


def test_a_second_down_is_harmless() -> None:
    assert "no demo is running" in demo("down")
