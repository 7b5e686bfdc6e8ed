"""The report of a benchmark: cases with our figure, the peer's from the same interleaved run, and their ratio."""

import os
import platform
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from statistics import median

from rich.console import Console
from rich.progress import Progress, TaskID
from rich.table import Table


@dataclass(frozen=True, slots=True)
class Figures:
    """The measured values of one side, in the unit of the case."""

    values: tuple[float, ...]

    @property
    def p50(self) -> float:
        return median(self.values)

    @property
    def p99(self) -> float:
        return sorted(self.values)[min(len(self.values) - 1, round(0.99 * len(self.values)))]

    def document(self) -> dict[str, float]:
        return {"p50": round(self.p50, 4), "p99": round(self.p99, 4)}


@dataclass(frozen=True, slots=True)
class Case:
    """One comparison. `ratio` is above 1 when we are better; `met` is None without a budget."""

    name: str
    unit: str
    ours: Figures
    peer_name: str | None
    peer: Figures | None
    ratio: float | None
    budget: str
    met: bool | None

    def document(self) -> dict[str, object]:
        peer = {"name": self.peer_name, **self.peer.document()} if self.peer else None
        return {
            "case": self.name,
            "unit": self.unit,
            "ours": self.ours.document(),
            "peer": peer,
            "ratio": None if self.ratio is None else round(self.ratio, 3),
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

    def step(self, about: str, total: int) -> TaskID:
        """Begin a part of the benchmark that has `total` steps."""
        return self.progress.add_task(about, total=total)

    def compare(  # noqa: PLR0913 - the columns of a case
        self, name: str, unit: str, ours: list[float], peer_name: str, peer: list[float], *, least: float, more: bool
    ) -> None:
        """Add a case of pairs: run n of ours alternated with run n of the peer. With `more` higher is better."""
        ratios = [(our / their if more else their / our) for our, their in zip(ours, peer, strict=True)]
        ratio = median(ratios)
        budget = f"at least {least} of the peer"
        self.cases.append(
            Case(name, unit, Figures(tuple(ours)), peer_name, Figures(tuple(peer)), ratio, budget, ratio >= least)
        )

    def bound(self, name: str, unit: str, values: list[float], most: float) -> None:
        """Add a case whose budget is an upper bound of the 99th percentile."""
        figures = Figures(tuple(values))
        self.cases.append(Case(name, unit, figures, None, None, None, f"p99 below {most} {unit}", figures.p99 < most))

    def at_most(self, name: str, unit: str, values: list[float], most: float) -> None:
        """Add a case whose budget is a bound on the median."""
        figures = Figures(tuple(values))
        self.cases.append(Case(name, unit, figures, None, None, None, f"p50 below {most} {unit}", figures.p50 < most))

    def at_least(self, name: str, unit: str, values: list[float], least: float) -> None:
        """Add a case whose budget is a lower bound of the median."""
        figures = Figures(tuple(values))
        self.cases.append(Case(name, unit, figures, None, None, None, f"at least {least} {unit}", figures.p50 >= least))

    def none(self, name: str, unit: str, count: int) -> None:
        """Add a count that must be 0."""
        self.cases.append(Case(name, unit, Figures((float(count),)), None, None, None, "none", count == 0))

    def tell(self, name: str, unit: str, values: list[float]) -> None:
        """Add a figure that has no budget."""
        self.cases.append(Case(name, unit, Figures(tuple(values)), None, None, None, "", None))

    def document(self) -> dict[str, object]:
        machine = {"cpus": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
        return {
            "bench": self.name,
            "quick": self.quick,
            "machine": machine,
            "cases": [case.document() for case in self.cases],
        }

    def show(self) -> None:
        table = Table(title=self.name, title_justify="left")
        for column in ("case", "unit", "ours p50", "p99", "peer p50", "ratio", "budget", ""):
            table.add_column(column, justify="left" if column in {"case", "unit", "budget"} else "right")
        for case in self.cases:
            table.add_row(
                case.name,
                case.unit,
                f"{case.ours.p50:.4g}",
                f"{case.ours.p99:.4g}",
                f"{case.peer.p50:.4g}" if case.peer else "",
                "" if case.ratio is None else f"{case.ratio:.2f}",
                case.budget,
                {None: "", True: "met", False: "missed"}[case.met],
            )
        Console(width=160).print(table)


@dataclass(frozen=True, slots=True)
class Bench:
    """The description of a benchmark, and the function that runs it."""

    about: str
    measure: Callable[[Report], Coroutine[None, None, None]]
