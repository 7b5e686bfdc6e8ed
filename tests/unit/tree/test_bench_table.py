"""The tables of bench/README.md and README.md are written from what benchmarks measured."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import BENCHES
from bench.reporting.budgets import BUDGETS
from bench.reporting.pages import (
    COMPARED,
    LISTED,
    MEASURED,
    NOTHING,
    PAGE,
    README,
    compared,
    listed,
    measured,
    with_comparison,
    with_measured,
)
from bench.reporting.report import Figures, Report


def empty(*sections: str) -> str:
    return "".join(f"<!-- {name} -->\nold\n<!-- end of {name.partition(',')[0]} -->\n" for name in sections)


EMPTY = empty(LISTED, MEASURED)


def document(quick: bool = False) -> dict[str, object]:  # noqa: FBT001, FBT002 - as reports have it
    report = Report("cni_add", quick=quick, quiet=True)
    report.compare("one at a time/launcher", "ms", [1.0, 2.0, 3.0], "the peer", [9.0, 14.0, 21.0], more=False)
    report.compare("one at a time/shim", "ms", [2.0], "the peer", [1.0], more=False)
    report.tell("stage/launcher", "ms", [0.25])
    machine = {"cpus": 2, "model": "Some CPU", "kernel": "6.1.0", "python": "3.11.2"}
    times = {"began": "2026-03-01T12:30:00+00:00", "seconds": 600, "load": 0.25, "commit": "abc1234"}
    return {**report.document(), **times, "machine": machine}


def test_each_case_is_a_row_and_says_whether_its_budget_is_met() -> None:
    lines = measured([document()]).splitlines()
    assert lines[0] == (
        "From 2026-03-01 12:30 to 2026-03-01 12:40 UTC at commit abc1234 on 2 cores (Some CPU), Linux 6.1.0, Python"
        " 3.11.2. The load average before each benchmark was 0.2 to 0.2."
    )
    assert lines[2].startswith("1 of 2 cases that have a budget meet it. ")
    budgets = "at least 5 of the peer (goal 8); p99 at least 1 of the peer's"
    assert lines[-3:] == [
        f"| `cni_add` | one at a time/launcher | ms | 3 | 2 | 3 | the peer | 14 | 21 | 7.00 | {budgets} | met |",
        "| `cni_add` | one at a time/shim | ms | 1 | 2 | 2 | the peer | 1 | 1 | 0.50 | {} | **missed** |".format(
            "at least 1 of the peer"
        ),
        "| `cni_add` | stage/launcher | ms | 1 | 0.25 | 0.25 |  |  |  |  |  |  |",
    ]


def test_a_quick_run_is_no_measurement() -> None:
    with pytest.raises(ValueError, match="quick run mean nothing: cni_add"):
        measured([document(quick=True)])


@pytest.mark.parametrize(
    ("ours", "peer", "ratio", "ratio_p99", "met"),
    [
        ([1.0, 1.0, 6.0], [5.0, 5.0, 30.0], 5.0, 5.0, True),
        ([1.0, 1.0, 10.0], [5.0, 5.0, 5.0], 5.0, 0.5, False),
        ([1.0, 1.0, 1.0], [4.0, 4.0, 4.0], 4.0, 4.0, False),
    ],
)
def test_both_the_median_and_the_99th_percentile_have_budgets(
    ours: list[float],
    peer: list[float],
    ratio: float,
    ratio_p99: float,
    met: bool,  # noqa: FBT001 - a value, not a switch
) -> None:
    report = Report("cni_add", quick=False, quiet=True)
    report.compare("one at a time/launcher", "ms", ours, "the peer", peer, more=False)
    (case,) = report.cases
    assert (case.ratio, case.ratio_p99, case.met) == (ratio, ratio_p99, met)


def test_of_a_hundred_runs_the_worst_one_is_not_the_99th_percentile() -> None:
    assert [Figures(tuple(map(float, range(runs)))).p99 for runs in (1, 99, 100, 101, 200)] == [0, 98, 98, 99, 197]


def test_of_what_is_better_when_it_is_more_the_99th_percentile_is_low() -> None:
    report = Report("watch", quick=False, quiet=True)
    report.compare("rate", "1/s", [400.0, 500.0, 600.0], "the peer", [100.0, 250.0, 200.0], more=True)
    (case,) = report.cases
    assert (case.ours.p50, case.ours.p99, case.ratio, case.ratio_p99) == (500.0, 400.0, 3.0, 4.0)


def test_a_page_gets_what_is_measured_in_place_of_what_was() -> None:
    page = with_measured(EMPTY, [document()])
    assert "old" not in page
    assert page.count("7.00") == 1
    assert with_measured(page, [document()]) == page


@pytest.mark.parametrize("page", ["", EMPTY.partition("<!-- end")[0]])
def test_a_page_without_the_section_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match="has no section between"):
        with_measured(page, [document()])


def test_the_list_of_benchmarks_and_budgets_is_that_of_the_code() -> None:
    assert f"\n{listed()}\n" in PAGE.read_text()


def test_the_figures_of_the_readme_are_those_of_the_page_of_benchmarks() -> None:
    assert with_comparison(README.read_text(), PAGE.read_text()) == README.read_text()


def test_before_anything_is_measured_the_readme_says_so() -> None:
    assert compared(EMPTY) == NOTHING
    assert NOTHING in with_comparison(empty(COMPARED), EMPTY)


def test_every_budget_is_of_a_benchmark() -> None:
    assert {budget.bench for budget in BUDGETS} <= set(BENCHES)


def test_a_table_names_the_benchmarks_that_have_no_result() -> None:
    verdict = measured([document()]).splitlines()[2]
    assert verdict.startswith("1 of 2 cases that have a budget meet it. Not measured in this run: `agent_idle`, ")
    assert "cni_add" not in verdict
    whole = [{**document(), "bench": name} for name in BENCHES]
    assert "Not measured" not in measured(whole)


def test_the_first_page_leaves_out_what_was_not_measured() -> None:
    shown = compared(with_measured(EMPTY, [document()]))
    assert shown.count("\n| ") == 3, "the heading and two cases"


def test_without_results_no_table_is_written(tmp_path: Path) -> None:
    before = PAGE.read_text(), README.read_text()
    command = [sys.executable, "-m", "bench.reporting.table", "--from", str(tmp_path)]
    done = subprocess.run(command, cwd=README.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "has no results" in done.stderr
    assert (PAGE.read_text(), README.read_text()) == before
