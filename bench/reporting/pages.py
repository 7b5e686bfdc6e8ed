"""The tables of bench/README.md and README.md that `make bench-table` writes, between marks."""

import datetime as dt
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.__main__ import BENCHES
from bench.reporting.budgets import BUDGETS

PAGE = Path(__file__).parents[1] / "README.md"
README = PAGE.parents[1] / "README.md"

LISTED = "benchmarks and their budgets, written by `make bench-table`"
MEASURED = "what one run measured, written by `make bench-table`"
COMPARED = "figures of bench/README.md, written by `make bench-table`"
NOTHING = "Nothing has been measured yet: `make bench-table` does it.\n"

Document = Mapping[str, Any]

_COLUMNS = ("benchmark", "case", "unit", "runs", "ours p50", "p99", "peer", "p50", "p99", "ratio", "budget", "")

_ALL_OF_IT = "launcher/processor time of each"

COMPARISON = (
    ("TCP round trip between two hosts, routed network", "dataplane", "tcp_rr/routed/clean"),
    ("the same on hosts with firewall rules and br_netfilter", "dataplane", "tcp_rr/routed/firewall"),
    ("the same on such hosts, switched network", "dataplane", "tcp_rr/switched/firewall"),
    ("packets of 64 bytes, routed network", "dataplane", "packets/routed/clean"),
    ("CNI ADD, one at a time, native plugin", "cni_add", "one at a time/launcher"),
    ("CNI ADD, one at a time, Python plugin", "cni_add", "one at a time/shim"),
    ("CNI ADD, 16 at once, native plugin", "cni_add", "16 at once/launcher"),
    ("CNI DEL, 16 at once, native plugin", "cni_del", "16 at once/launcher"),
    ("processor time of an ADD and all that follows, one at a time", "cni_add", f"one at a time/{_ALL_OF_IT}"),
    ("the same of each of 16 at once", "cni_add", f"16 at once/{_ALL_OF_IT}"),
    ("20,000 remote hosts programmed, with the same metrics", "program_remotes", "20000 remotes/like for like"),
    ("start of an agent with 20,000 remote hosts, until in sync", "restart", "20000 remotes/until in sync"),
    ("memory of an agent with 1,000 remote hosts", "agent_idle", "resident memory"),
    ("memory of a controller with 1,000 hosts and 50,000 endpoints", "controller_memory", "with a feed of each host"),
)
"""The rows of the table in README.md: what it says, the benchmark, and the case."""


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of the measured table, as the page has it."""

    unit: str
    ours: str
    peer: str
    theirs: str
    ratio: str


def listed() -> str:
    """Return the list of benchmarks, from what they say of themselves, and of budgets."""
    lines = ["| name | what |", "|---|---|"]
    lines += [f"| `{name}` | {bench.about.splitlines()[0]} |" for name, bench in BENCHES.items()]
    cases: dict[tuple[str, str], list[str]] = defaultdict(list)
    for budget in BUDGETS:
        cases[budget.bench, str(budget)].append(budget.case)
    lines += ["", "| benchmark | cases | budget |", "|---|---|---|"]
    lines += [f"| `{bench}` | {'; '.join(named)} | {text} |" for (bench, text), named in cases.items()]
    return "\n".join(lines) + "\n"


def measured(documents: Sequence[Document]) -> str:
    """Return the table of what benchmarks measured; raise `ValueError` when one ran just to show that it works."""
    if quick := [document["bench"] for document in documents if document["quick"]]:
        raise ValueError(f"the figures of a quick run mean nothing: {', '.join(quick)}")
    cases = [(document["bench"], case) for document in documents for case in document["cases"]]
    bounded = [case for _, case in cases if case["met"] is not None]
    verdict = f"{sum(case['met'] for case in bounded)} of {len(bounded)} cases that have a budget meet it."
    if missing := [f"`{name}`" for name in BENCHES if name not in {document["bench"] for document in documents}]:
        verdict += f" Not measured in this run: {', '.join(missing)}."
    rows = ["| " + " | ".join(_COLUMNS) + " |", "|---" * len(_COLUMNS) + "|"]
    rows += [_row(bench, case) for bench, case in cases]
    return f"{_conditions(documents)}\n\n{verdict}\n\n" + "\n".join(rows) + "\n"


def compared(page: str) -> str:
    """Return the comparison of README.md, from the table in the text of bench/README.md."""
    head, rows = _parsed(_section(page, MEASURED))
    if not rows:
        return NOTHING
    lines = ["| | overlayd | peer | |", "|---|---|---|---|"]
    for text, bench, case in COMPARISON:
        row = rows.get((bench, case))
        if row is None:
            continue  # not measured in this run
        peer = f"{row.theirs} {row.unit}, {row.peer}" if row.peer else ""
        lines.append(f"| {text} | {row.ours} {row.unit} | {peer} | {_times(row.ratio)} |")
    return f"{head}\n\n" + "\n".join(lines) + "\n"


def with_measured(page: str, documents: Sequence[Document]) -> str:
    """Return the text of bench/README.md with the lists and the table of these documents."""
    return _replaced(_replaced(page, LISTED, listed()), MEASURED, measured(documents))


def with_comparison(readme: str, page: str) -> str:
    """Return the text of README.md with the figures of that of bench/README.md."""
    return _replaced(readme, COMPARED, compared(page))


def _conditions(documents: Sequence[Document]) -> str:
    """Return the sentence that says when and on what was measured."""
    began = [dt.datetime.fromisoformat(document["began"]) for document in documents]
    ended = max(at + dt.timedelta(seconds=document["seconds"]) for at, document in zip(began, documents, strict=True))
    machines = {
        "{cpus} cores ({model}), Linux {kernel}, Python {python}".format(**document["machine"])
        for document in documents
    }
    loads = [document["load"] for document in documents]
    commits = sorted({document["commit"] for document in documents} - {""})
    return (
        f"From {min(began):%Y-%m-%d %H:%M} to {ended:%Y-%m-%d %H:%M} UTC"
        f"{' at commit ' + ', '.join(commits) if commits else ''} on {' and '.join(sorted(machines))}. "
        f"The load average before each benchmark was {min(loads):.1f} to {max(loads):.1f}."
    )


def _row(bench: str, case: Mapping[str, Any]) -> str:
    ours, peer, ratio = case["ours"], case["peer"], case["ratio"]
    columns = (
        f"`{bench}`",
        case["case"],
        case["unit"],
        case["runs"],
        f"{ours['p50']:.4g}",
        f"{ours['p99']:.4g}",
        *((peer["name"], f"{peer['p50']:.4g}", f"{peer['p99']:.4g}") if peer else ("", "", "")),
        "" if ratio is None else f"{ratio:.2f}",
        case["budget"],
        {None: "", True: "met", False: "**missed**"}[case["met"]],
    )
    return "| " + " | ".join(map(str, columns)) + " |"


def _parsed(section: str) -> tuple[str, dict[tuple[str, str], _Row]]:
    """Return the conditions and the rows of the measured table."""
    rows = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            columns = [column.strip() for column in line.strip("|").split("|")]
            bench, case, unit, _, ours, _, peer, theirs, _, ratio, *_ = columns
            rows[bench.strip("`"), case] = _Row(unit.replace("us", "µs"), ours, peer, theirs, ratio)
    return next((line for line in section.splitlines() if line.startswith("From ")), ""), rows


def _times(ratio: str) -> str:
    """Return a ratio in words; less than 1 is said loudly."""
    if not ratio:
        return ""
    return f"{ratio} times as good" if float(ratio) >= 1 else f"**{ratio}: worse**"


def _section(page: str, name: str) -> str:
    begin, end = _marks(name)
    found = re.search(f"{re.escape(begin)}(.*?){re.escape(end)}", page, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no section between {begin.strip()} and {end.strip()}")
    return found[1]


def _replaced(page: str, name: str, text: str) -> str:
    """Return a page with this text in a section; raise `ValueError` when it has no such section."""
    begin, end = _marks(name)
    return page.replace(f"{begin}{_section(page, name)}{end}", f"{begin}\n{text}\n{end}")


def _marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->\n", f"<!-- end of {name.partition(',')[0]} -->\n"
