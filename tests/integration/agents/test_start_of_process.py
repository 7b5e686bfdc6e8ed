"""What the agent's process loads: libraries of the command line and of the controllers cost time and memory."""

import sys
from pathlib import Path

import pytest

from tests.support.lab.lab import COMMANDS, Lab
from tests.support.lab.processes import Process, eventually

NEVER = {"click", "cryptography", "fastapi", "grpc", "h11", "httpx", "pydantic", "pygments", "rich", "typer"}
"""Libraries that a running agent does without. Each has modules below it; one that is refused shows its name alone."""


def imported(log: str) -> set[str]:
    """Return the modules that a process has imported, from what the interpreter's option ``-X importtime`` prints."""
    lines = [line for line in log.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip() for line in lines}


@pytest.mark.parametrize("secure", [True, False], ids=["with TLS", "without"])
def test_a_running_agent_has_loaded_no_library_of_the_command_line(tmp_path: Path, *, secure: bool) -> None:
    with Lab(tmp_path / "lab", hosts=1, secure=secure) as lab:
        lab.start_controller()
        lab.overlayctl("network", "create", "blue", "--range", "10.40.0.0/16")
        (host,) = lab.hosts
        if secure:
            host.join()
        urls = () if secure else [f"--controller={url}" for url in lab.urls]
        program = [sys.executable, "-X", "importtime", str(COMMANDS / "overlayd"), "run", *urls]
        agent = host.agent = Process(host.enter(program), tmp_path / "agent.log")
        eventually(lambda: (host.agent_status() or {}).get("in_sync"), "the agent is in sync")
        container = host.attach("web", "blue")
        eventually(lambda: lab.published("blue") == {"web"}, "it is published")
        assert host.detach(container).status == 0
        eventually(lambda: lab.published("blue") == set(), "that it is gone is published")
        lab.overlayctl("wait")
        modules = imported(agent.output)
    assert "overlayd.agent.daemon" in modules
    assert {module.partition(".")[0] for module in modules if "." in module} & NEVER == set()
