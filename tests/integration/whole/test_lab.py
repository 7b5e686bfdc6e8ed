"""The lab leaves nothing behind, however a test ends."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.support.lab.lab import ROOT, Lab
from tests.support.lab.processes import Pid, eventually


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
