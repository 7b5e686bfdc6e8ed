"""The table of bench/README.md is written from what one run measured."""

import datetime as dt

import pytest

from bench.report import Report
from bench.table import BEGIN, END, README, rendered, replaced

BEGUN = dt.datetime(2026, 3, 1, 12, 30, tzinfo=dt.UTC)


def measured() -> dict[str, object]:
    report = Report("allocate", quick=False, quiet=True)
    report.compare("fast|er", "ms", [1.0, 2.0, 3.0], "peer", [2.0, 4.0, 6.0], least=1.5, more=False)
    report.bound("late", "ms", [5.0, 9.0], 8)
    report.none("writes", "operations", 0)
    report.tell("plain", "s", [0.25])
    return report.document()


def test_each_case_is_a_row_and_says_whether_its_budget_is_met() -> None:
    lines = rendered([measured()], BEGUN, 0.25).splitlines()
    assert lines[0].startswith("On 2026-03-01 from 12:30 UTC, with a load average of 0.2 before it began: ")
    assert lines[1] == "2 of 3 budgets are met."
    assert lines[-4:] == [
        r"| `allocate` | fast\|er | ms | 2 | 3 | 4 (peer) | 2.00 | at least 1.5 of the peer | met |",
        "| `allocate` | late | ms | 7 | 9 |  |  | p99 below 8 ms | **missed** |",
        "| `allocate` | writes | operations | 0 | 0 |  |  | none | met |",
        "| `allocate` | plain | s | 0.25 | 0.25 |  |  |  |  |",
    ]


def test_it_takes_the_place_of_the_section_before() -> None:
    assert replaced(f"a\n{BEGIN}\nold\n{END}z\n", "new\n") == f"a\n{BEGIN}\nnew\n\n{END}z\n"


@pytest.mark.parametrize("readme", ["", BEGIN, END])
def test_a_page_without_the_section_is_refused(readme: str) -> None:
    with pytest.raises(ValueError, match="has no section between"):
        replaced(readme, "new\n")


def test_the_readme_has_the_section() -> None:
    assert "new" in replaced(README.read_text(), "new\n")
