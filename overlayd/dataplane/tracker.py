"""Keeps track of which desired state each namespace is known to have. Pure.

A namespace that holds exactly the earlier desired state need not be observed when the desired state changes: the
difference of the two desired states is the difference of desired and observed state.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from overlayd.dataplane import ownership
from overlayd.dataplane.items import BridgeEntry, FdbEntry, NamespaceRef, Neighbour, Route, State

_Entry = Neighbour | FdbEntry | BridgeEntry | Route
"""What neither goes with another item nor takes another one with it."""

_UNKNOWN: State = frozenset()
"""Stands for an unknown desired state: an empty one would have everything deleted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The items that are missing in a namespace, and those that must go."""

    missing: State
    surplus: State


@dataclass(frozen=True, slots=True)
class Tracker:
    """`reached` is the desired state to which each namespace was last brought without a failed operation.

    Of those in `exact` no change by others was noticed since. While the feed is not in sync they may hold more than
    that, and no difference is asked for; a look at everything follows as soon as it is.
    """

    reached: Mapping[NamespaceRef, State] = field(default_factory=lambda: MappingProxyType({}))
    exact: frozenset[NamespaceRef] = frozenset()

    def pending(self, spaces: Mapping[NamespaceRef, State]) -> frozenset[NamespaceRef]:
        """Return the namespaces that are not known to be as desired, also those that are no longer desired."""
        wanted = {ns for ns in spaces if ownership.is_observed(ns)}
        return frozenset(ns for ns in wanted | self.reached.keys() if spaces.get(ns) is not self.reached.get(ns))

    def difference(self, ns: NamespaceRef, desired: State) -> Difference | None:
        """Return how a network's namespace differs from a desired state, None when it must be observed.

        It must be observed when its content is not known exactly, or when devices are added or removed, as attachments
        do.
        """
        if ns not in self.exact or not ownership.is_network_namespace(ns):
            return None
        reached = self.reached[ns]
        missing, surplus = desired - reached, reached - desired
        are_entries = all(isinstance(item, _Entry) for item in missing | surplus)
        return Difference(missing, surplus) if are_entries else None

    def doubting(self, namespaces: Collection[NamespaceRef]) -> "Tracker":
        """Return the tracker after changes by others in these namespaces were noticed."""
        if self.exact.isdisjoint(namespaces):
            return self
        return Tracker(self.reached, self.exact.difference(namespaces))

    def forgetting(self, namespaces: Collection[NamespaceRef]) -> "Tracker":
        """Return the tracker when it is unknown what these namespaces hold of ours; they are pending until observed."""
        unknown = dict.fromkeys(namespaces, _UNKNOWN)
        return Tracker(MappingProxyType({**self.reached, **unknown}), self.exact.difference(namespaces))

    def after(
        self,
        spaces: Mapping[NamespaceRef, State],
        looked_at: frozenset[NamespaceRef] | None,
        failed: Collection[NamespaceRef],
    ) -> "Tracker":
        """Return the tracker after these namespaces (None: all), but for failed ones, reached the desired state."""
        kept = {} if looked_at is None else {ns: s for ns, s in self.reached.items() if ns not in looked_at}
        done = {
            ns: state
            for ns, state in spaces.items()
            if ownership.is_observed(ns) and ns not in failed and (looked_at is None or ns in looked_at)
        }
        return Tracker(MappingProxyType(kept | done), self.exact & kept.keys() | done.keys())
