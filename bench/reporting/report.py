"""The report of a benchmark: cases with our figure, the peer's from the same interleaved run, and their ratio."""

import datetime as dt
import math
import os
import platform
import subprocess
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table

from bench.reporting.budgets import Bound, Budget, budgets_of


@dataclass(frozen=True, slots=True)
class Figures:
    """The measured values of one side, in the unit of the case. `more` says that higher is better."""

    values: tuple[float, ...]
    more: bool = False

    @property
    def p50(self) -> float:
        return median(self.values)

    @property
    def p99(self) -> float:
        """What 99 of 100 runs are no worse than (the nearest rank)."""
        return sorted(self.values, reverse=self.more)[math.ceil(0.99 * len(self.values)) - 1]

    def document(self) -> dict[str, float]:
        return {"p50": round(self.p50, 4), "p99": round(self.p99, 4)}


@dataclass(frozen=True, slots=True)
class Case:
    """One figure or comparison. `ratio` and `ratio_p99` are above 1 when we are better."""

    name: str
    unit: str
    ours: Figures
    peer_name: str | None
    peer: Figures | None
    ratio: float | None
    ratio_p99: float | None
    budgets: tuple[Budget, ...]

    @property
    def budget(self) -> str:
        return "; ".join(map(str, self.budgets))

    @property
    def met(self) -> bool | None:
        """Whether every gate of the case is met; None without a budget."""
        return all(map(self._meets, self.budgets)) if self.budgets else None

    def _meets(self, budget: Budget) -> bool:
        match budget.bound:
            case Bound.RATIO:
                return self.ratio is not None and self.ratio >= budget.gate
            case Bound.RATIO_P99:
                return self.ratio_p99 is not None and self.ratio_p99 >= budget.gate
            case Bound.P50_BELOW:
                return self.ours.p50 < budget.gate
            case Bound.P99_BELOW:
                return self.ours.p99 < budget.gate
            case Bound.P50_AT_LEAST:
                return self.ours.p50 >= budget.gate
            case Bound.NONE:
                return not any(self.ours.values)

    def document(self) -> dict[str, object]:
        peer = {"name": self.peer_name, **self.peer.document()} if self.peer else None
        return {
            "case": self.name,
            "unit": self.unit,
            "more_is_better": self.ours.more,
            "ours": self.ours.document(),
            "peer": peer,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
            "ratio_p99": None if self.ratio_p99 is None else round(self.ratio_p99, 3),
            "budget": self.budget,
            "met": self.met,
            "runs": len(self.ours.values),
        }


@dataclass
class Report:
    """Collects the cases of one benchmark, and shows its progress."""

    name: str
    quick: bool
    quiet: bool
    cases: list[Case] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.progress = Progress(console=Console(stderr=True), disable=self.quiet)
        self._began = dt.datetime.now(dt.UTC)
        self._load = os.getloadavg()[0]

    def step(self, about: str, total: int) -> TaskID:
        """Begin a part of the benchmark that has `total` steps."""
        return self.progress.add_task(about, total=total)

    def compare(  # noqa: PLR0913 - the columns of a case
        self, name: str, unit: str, ours: list[float], peer_name: str, peer: list[float], *, more: bool
    ) -> None:
        """Add a case of pairs: run n of ours alternated with run n of the peer. With `more` higher is better."""
        ratio = median((our / their if more else their / our) for our, their in zip(ours, peer, strict=True))
        mine, theirs = Figures(tuple(ours), more), Figures(tuple(peer), more)
        ratio_p99 = mine.p99 / theirs.p99 if more else theirs.p99 / mine.p99
        budgets = budgets_of(self.name, name)
        self.cases.append(Case(name, unit, mine, peer_name, theirs, ratio, ratio_p99, budgets))

    def tell(self, name: str, unit: str, values: list[float], *, more: bool = False) -> None:
        """Add a figure without a peer."""
        budgets = budgets_of(self.name, name)
        self.cases.append(Case(name, unit, Figures(tuple(values), more), None, None, None, None, budgets))

    def document(self) -> dict[str, object]:
        return {
            "bench": self.name,
            "quick": self.quick,
            "machine": machine(),
            "began": self._began.isoformat(timespec="seconds"),
            "seconds": round((dt.datetime.now(dt.UTC) - self._began).total_seconds()),
            "load": round(self._load, 2),
            "commit": commit(),
            "cases": [case.document() for case in self.cases],
        }

    def show(self) -> None:
        table = Table(title=self.name, title_justify="left")
        columns = ("case", "unit", "runs", "ours p50", "p99", "peer p50", "p99", "ratio", "budget", "")
        for column in columns:
            table.add_column(column, justify="left" if column in {"case", "unit", "budget"} else "right")
        for case in self.cases:
            table.add_row(
                case.name,
                case.unit,
                str(len(case.ours.values)),
                f"{case.ours.p50:.4g}",
                f"{case.ours.p99:.4g}",
                f"{case.peer.p50:.4g}" if case.peer else "",
                f"{case.peer.p99:.4g}" if case.peer else "",
                "" if case.ratio is None else f"{case.ratio:.2f}",
                case.budget,
                {None: "", True: "met", False: "missed"}[case.met],
            )
        Console(width=180).print(table)


@dataclass(frozen=True, slots=True)
class Bench:
    """The description of a benchmark, and the function that runs it."""

    about: str
    measure: Callable[[Report], Coroutine[None, None, None]]


def machine() -> dict[str, object]:
    """Return the properties of this machine on which figures depend."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "model": next(models, platform.machine()),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def commit() -> str:
    """Return the commit of this tree, with a plus sign when files differ from it; empty outside a repository."""
    command = ["git", "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip()
