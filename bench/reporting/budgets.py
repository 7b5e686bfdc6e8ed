"""Every budget of the benchmarks, in one list. Tests compare it with the cases of the benchmarks and with the page."""

from dataclasses import dataclass
from enum import Enum


class Bound(Enum):
    """What a budget bounds: a ratio against the peer (above 1 we are better), or our own figure."""

    RATIO = "at least {} of the peer"
    """The median over the pairs."""

    RATIO_P99 = "p99 at least {} of the peer's"
    P50_BELOW = "p50 below {} {}"
    P99_BELOW = "p99 below {} {}"
    P50_AT_LEAST = "at least {} {}"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Budget:
    """The bound of one case of a benchmark, in the unit of the case: the gate must be met, the goal is aimed at."""

    bench: str
    case: str
    bound: Bound
    gate: float
    unit: str = ""
    goal: float | None = None

    def __str__(self) -> str:
        """Say what must be so."""
        text = self.bound.value.format(f"{self.gate:g}", self.unit).strip()
        return text if self.goal is None else f"{text} (goal {self.goal:g})"


_ADD, _DEL, _ONE, _MANY = "cni_add", "cni_del", "one at a time", "16 at once"
_HOSTS = "20000 hosts, 50 networks"

_DATAPLANE = (
    *(
        Budget("dataplane", f"tcp_rr/{network}/{state}", Bound.RATIO, gate, goal=1.35)
        for network, state, gate in (
            ("routed", "clean", 1.15),
            ("switched", "clean", 1.20),
            ("routed", "firewall", 1.16),
            ("switched", "firewall", 1.22),
        )
    ),
    *(
        Budget("dataplane", f"{what}/{network}/{state}{against}", Bound.RATIO, gate, goal=goal)
        for what, against, gate, goal in (
            ("udp_rr", "", 1.0, None),
            ("connect", "", 1.0, None),
            ("packets", "", 1.25, 1.35),
            ("stream", "", 1.05, None),
            ("stream", "/against the underlay", 0.85, 0.92),
        )
        for network in ("routed", "switched")
        for state in ("clean", "firewall")
    ),
)

BUDGETS: tuple[Budget, ...] = (
    Budget(_ADD, f"{_ONE}/launcher", Bound.RATIO, 5.0, goal=8.0),
    Budget(_ADD, f"{_ONE}/launcher", Bound.RATIO_P99, 1.0),
    Budget(_ADD, f"{_ONE}/shim", Bound.RATIO, 1.0),
    Budget(_ADD, f"{_MANY}/launcher", Bound.RATIO, 4.0, goal=6.0),
    Budget(_ADD, f"{_MANY}/shim", Bound.RATIO, 1.0),
    Budget(_DEL, f"{_ONE}/launcher", Bound.RATIO, 1.0),
    Budget(_DEL, f"{_ONE}/shim", Bound.RATIO, 1.0),
    Budget(_DEL, f"{_MANY}/launcher", Bound.RATIO, 5.0, goal=10.0),
    Budget(_DEL, f"{_MANY}/shim", Bound.RATIO, 1.0),
    Budget("cni_rate", "attachments, published", Bound.P50_AT_LEAST, 400.0, "1/s", 600.0),
    Budget("program_remotes", "20000 remotes/without metric", Bound.RATIO, 30.0, goal=40.0),
    Budget("program_remotes", "20000 remotes/like for like", Bound.RATIO, 2.5, goal=3.0),
    Budget("restart", "20000 remotes/until an ADD is answered", Bound.P99_BELOW, 0.5, "s", 0.5),
    Budget("restart", "20000 remotes/until in sync", Bound.P99_BELOW, 1.0, "s", 0.5),
    Budget("restart", "20000 remotes/what the kernel said of writes", Bound.NONE, 0, "messages"),
    # Our time over the peer's is at most 1.05 for Docker, and at most 1 for podman.
    Budget("runtimes", "docker run", Bound.RATIO, 0.953),
    Budget("runtimes", "podman run", Bound.RATIO, 1.0),
    Budget("busy_cluster", f"{_HOSTS}/a block comes or goes in a routed network", Bound.P99_BELOW, 20.0, "ms", 2.0),
    Budget("busy_cluster", f"{_HOSTS}/an endpoint comes or goes in a switched one", Bound.P99_BELOW, 20.0, "ms", 2.0),
    Budget("busy_cluster", f"{_HOSTS}/a bookmark", Bound.P99_BELOW, 1.0, "ms"),
    *_DATAPLANE,
    Budget("watch", "1000 agents/from the request to the last of them", Bound.P99_BELOW, 1000.0, "ms"),
    Budget("watch", "store watch resumes after a kill", Bound.P99_BELOW, 1.0, "s"),
    Budget("watch", "store watch resumes after a freeze", Bound.P99_BELOW, 5.0, "s"),
    Budget("controller_memory", "with a feed of each host", Bound.P50_BELOW, 300.0, "MB"),
    Budget("controller_memory", "a block, under that load", Bound.P99_BELOW, 20.0, "ms"),
    Budget("allocate", "over HTTPS, 64 hosts", Bound.P50_AT_LEAST, 600.0, "blocks/s"),
    Budget("allocate", "/8 against /24", Bound.RATIO, 0.8),
    Budget("allocate", "/48 against /120", Bound.RATIO, 0.8),
    Budget("agent_idle", "resident memory", Bound.P50_BELOW, 60.0, "MB", 50.0),
    Budget("agent_idle", "processor, idle", Bound.P50_BELOW, 1.0, "% of a core"),
    Budget("agent_idle", "processor, a change each second", Bound.P50_BELOW, 1.0, "% of a core"),
    Budget("commands", "overlayctl --help", Bound.P50_BELOW, 150.0, "ms"),
    Budget("commands", "overlayctl network list", Bound.P50_BELOW, 300.0, "ms"),
    *(
        Budget("drift", what, Bound.P99_BELOW, 2.0, "s")
        for what in (
            "vx0 deleted",
            "vx0 down",
            "routes deleted",
            "neighbours deleted",
            "forwarding off",
            "namespace deleted",
        )
    ),
)


def budgets_of(bench: str, case: str) -> tuple[Budget, ...]:
    """Return the budgets of a case; none has no bound."""
    return tuple(budget for budget in BUDGETS if (budget.bench, budget.case) == (bench, case))
