"""Every benchmark runs, and says what it measured in the agreed form."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.reporting.budgets import BUDGETS
from bench.reporting.pages import COMPARISON

ROOT = Path(__file__).parents[3]


NAMES: tuple[object, ...] = (
    "allocate",
    "busy_cluster",
    "cni_add",
    "commands",
    "controller_memory",
    "dataplane",
    "program_remotes",
    *(
        pytest.param(name, marks=pytest.mark.thorough)
        for name in ("agent_idle", "cni_del", "cni_rate", "drift", "restart", "runtimes", "watch")
    ),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_prints_one_json_object(name: str) -> None:
    command = [sys.executable, "-m", "bench", name, "--quick", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout)
    assert said["bench"] == name
    assert {"cpus", "kernel", "python"} <= said["machine"].keys()
    assert said["cases"]
    assert {case["case"] for case in said["cases"] if case["budget"]} == {
        budget.case for budget in BUDGETS if budget.bench == name
    }
    assert {case for _, bench, case in COMPARISON if bench == name} <= {case["case"] for case in said["cases"]}
    for case in said["cases"]:
        assert case["runs"] >= 1
        assert case["ours"]["p50"] > 0 or case["budget"] == "none"
        best, worst = (case["ours"][name] for name in ("p50", "p99"))
        assert best >= worst if case["more_is_better"] else worst >= best
        if case["peer"]:
            assert case["ratio"] > 0
            assert case["ratio_p99"] > 0
