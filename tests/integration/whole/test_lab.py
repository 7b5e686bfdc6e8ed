"""The lab leaves nothing behind, however a test ends, and works as its page shows."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.integration.conftest import NewNetwork
from tests.support.lab.lab import ROOT, Lab
from tests.support.lab.processes import Pid, eventually
from tests.support.packets.ping_stream import Pinging


class TestFailedError(Exception):
    """What a failing test raises."""

    __test__ = False


def test_everything_ends_with_a_test_that_fails(tmp_path: Path) -> None:
    pids: list[Pid] = []

    def failing() -> None:
        with Lab(tmp_path / "lab", hosts=2) as lab:
            lab.start_controller()
            lab.hosts[0].start_agent()
            pids.extend(lab.pids)
            raise TestFailedError

    with pytest.raises(TestFailedError):
        failing()
    assert len(pids) == 5, "the underlay, two hosts, a controller and an agent"
    assert [pid for pid in pids if pid.alive] == []


def test_everything_ends_with_a_test_run_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        from pathlib import Path
        from tests.support.lab.lab import Lab
        with Lab(Path({str(tmp_path / "lab")!r}), hosts=1) as lab:
            lab.start_controller()
            lab.hosts[0].start_agent()
            print(*(pid.number for pid in lab.pids), flush=True)
            input()
    """)
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as runner:
        assert runner.stdout is not None
        pids = [Pid.of(int(number)) for number in runner.stdout.readline().split()]
        assert len(pids) == 4
        assert all(pid.alive for pid in pids)
        runner.kill()
    eventually(lambda: not any(pid.alive for pid in pids), "every process has ended")


def test_benchmarks_get_daemons_that_were_executed_and_not_forked(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", hosts=1, executed=True) as lab:
        daemons = {"overlay-controller": lab.start_controller(), "overlayd": lab.hosts[0].start_agent()}
        for name, daemon in daemons.items():
            _, program, *_ = Path(f"/proc/{daemon.pid.number}/cmdline").read_bytes().decode().split("\0")
            assert Path(program).name == name
            assert b"PYTHON" not in Path(f"/proc/{daemon.pid.number}/environ").read_bytes()
        with pytest.raises(ValueError, match="forked"):
            lab.start_controllers(str(tmp_path / "store.db"))


def test_a_container_stays_reachable_while_its_agent_restarts(
    lab: Lab, new_network: NewNetwork, tmp_path: Path
) -> None:
    network = new_network("--topology", "switched")
    here, there = lab.attach_everywhere(network)
    with Pinging(here, there.address, tmp_path / "ping.log") as pinging:
        there.host.stop_agent()
        there.host.start_agent()
        pinging.more(50)
    assert pinging.lost == set()


def test_the_page_of_the_lab_shows_the_test_above() -> None:
    page = (ROOT / "tests/support/README.md").read_text()
    (shown,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert shown in Path(__file__).read_text()
