"""What this host reports: the applied revision and its problems."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import structlog

from overlayd.agent.controllers.problem import Problem
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane import ownership
from overlayd.dataplane.items import Link, Namespace, NamespaceRef, network_namespace
from overlayd.kernel.port import Outcome
from overlayd.model.cluster import UNKNOWN, Cluster
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import NetworkName, Revision

_log = structlog.get_logger(__name__)

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """The kernel matches revision `applied`, except for `problems`.

    Until `is_pruned` the kernel may hold more: undesired items are deleted only when a feed is in sync. `changed` is
    the last revision up to `applied` that changed a record which this host knows.
    """

    applied: Revision = UNKNOWN
    problems: tuple[Problem, ...] = ()
    is_pruned: bool = False
    changed: Revision = UNKNOWN


class HostReport:
    """The status as it is now. `changes` counts how often it changed; each problem is logged when it comes and goes."""

    def __init__(self) -> None:
        self.status = Status()
        self.changes = Changes()
        self._noticed_by: dict[str, tuple[Problem, ...]] = {}

    @property
    def noticed(self) -> tuple[Problem, ...]:
        """The problems that other actors found."""
        return tuple(problem for problems in self._noticed_by.values() for problem in problems)

    def keep(self, status: Status) -> Status:
        """Make this the status, and return it."""
        if status != self.status:
            for problem in set(status.problems) - set(self.status.problems):
                _log.warning("problem", object=problem.object, problem=problem.message)
            for problem in set(self.status.problems) - set(status.problems):
                _log.info("problem is over", object=problem.object, problem=problem.message)
            self.status = status
            self.changes.set()
        return status

    def notice(self, by: str, problems: tuple[Problem, ...]) -> None:
        """Report these problems from now on, in place of those that the actor `by` noticed before."""
        before = self._noticed_by.get(by, ())
        if problems != before:
            kept = tuple(problem for problem in self.status.problems if problem not in before)
            self._noticed_by[by] = problems
            self.keep(replace(self.status, problems=(*kept, *problems)))


def still_refused(
    before: Mapping[Key, Outcome], outcomes: Iterable[Outcome], looked_at: frozenset[NamespaceRef] | None
) -> dict[Key, Outcome]:
    """Return the operations that have not succeeded, by the key of the item.

    These are the failed ones among `outcomes`, and those that failed `before` in namespaces that were not assessed now
    (`looked_at` None: all were).
    """
    found = dict[Key, Outcome]()
    if looked_at is not None:
        found = {key: outcome for key, outcome in before.items() if outcome.op.item.ns not in looked_at}
    for outcome in outcomes:
        if outcome.done:
            found.pop(outcome.op.item.key, None)
        else:
            found[outcome.op.item.key] = outcome
    return found


def without_devices(refused: Iterable[Outcome]) -> frozenset[NamespaceRef]:
    """Return the namespaces in which an operation failed without which a network cannot carry anything."""
    return frozenset(outcome.op.item.ns for outcome in refused if _is_device(outcome))


def _is_device(outcome: Outcome) -> bool:
    item = outcome.op.item
    if isinstance(item, Link):
        return item.name != ownership.UPLINK and not item.name.startswith(ownership.VETH_PREFIX)
    return isinstance(item, Namespace)


def refusals(refused: Iterable[Outcome], cluster: Cluster, endpoints: Iterable[Endpoint]) -> list[Problem]:
    """Return a problem for each failed operation, with the network of its namespace if that is of one network."""
    failed = [outcome for outcome in refused if outcome.error]
    if not failed:
        return []
    places: dict[NamespaceRef, NetworkName | None] = {network_namespace(name): name for name in cluster.networks}
    for endpoint in endpoints:
        sandbox = NamespaceRef(endpoint.sandbox)
        places[sandbox] = endpoint.network if places.get(sandbox, endpoint.network) == endpoint.network else None
    return [Problem(str(each.op), str(each.error), places.get(each.op.item.ns)) for each in failed]
