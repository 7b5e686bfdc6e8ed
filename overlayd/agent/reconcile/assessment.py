"""One assessment of the host: facts → site → desired state → observed state → plan. Runs in the kernel's thread.

It changes no state: the event loop keeps the result, and passes it to the next assessment.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from overlayd.agent.controllers.problem import Problem
from overlayd.agent.reconcile.drift import Revived
from overlayd.agent.reconcile.facts import Facts, Recorded, gather
from overlayd.agent.reconcile.host_site import remembered, site_of, with_endpoints
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.shortcomings import Shortcomings, unrecorded
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.recovery import without_strays
from overlayd.dataplane import ownership
from overlayd.dataplane.desired import uplink
from overlayd.dataplane.desired.endpoint import host_end, in_sandbox, without_way_out
from overlayd.dataplane.desired.resolve import Desired, Membership
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.diff import between, restoration, retain
from overlayd.dataplane.items import HOST, Item, NamespaceRef, State, network_namespace
from overlayd.dataplane.plan import Plan
from overlayd.dataplane.tracker import Tracker
from overlayd.ipam.lifelines import Lifelines, of_hosts
from overlayd.kernel.port import Kernel, Surroundings
from overlayd.model.cluster import Cluster
from overlayd.model.ids import NetworkName
from overlayd.model.network import Network


@dataclass(frozen=True, slots=True)
class Standing:
    """Results of earlier assessments that the next one needs. `used` are the networks that endpoints here use.

    `surroundings` are the foreign routes and addresses of the host when uplinks were chosen for `networks`.
    """

    site: Site | None = None
    used: Mapping[NetworkName, Network] = field(default_factory=lambda: MappingProxyType({}))
    desired: Desired = field(default_factory=Desired)
    shortcomings: Shortcomings = field(default_factory=Shortcomings)
    tracker: Tracker = field(default_factory=Tracker)
    networks: tuple[Network, ...] = ()
    surroundings: Surroundings | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """What to assess: these namespaces, and `with_news` of the cluster whatever that requires.

    With news, they are also the namespaces in which the kernel has reported changes by others until now.
    """

    namespaces: frozenset[NamespaceRef]
    with_news: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What the agent knows when an assessment begins; until `in_sync` nothing is deleted."""

    cluster: Cluster
    in_sync: bool
    recorded: Recorded
    software_checksums: bool
    revived: Revived
    standing: Standing


@dataclass(frozen=True, slots=True)
class Assessment:
    """Result of an assessment. Executing `plan` brings the namespaces `looked_at` (None: all) to the desired state.

    Endpoints whose devices were `revived` have lost routes and addresses in their sandboxes. `keeps_rules` says that
    the host's rules stay as they are.
    """

    standing: Standing
    facts: Facts
    plan: Plan
    problems: tuple[Problem, ...]
    looked_at: frozenset[NamespaceRef] | None
    revived: Revived
    keeps_rules: bool


@dataclass(frozen=True, slots=True)
class Beginning:
    """What attachments to a network need to know whose devices are in force, before the first look at everything."""

    site: Site
    keeps_rules: bool


class Assessor:
    """Assesses the host; has no state of its own."""

    def __init__(self, kernel: Kernel, records: AttachmentRecords, local: Local) -> None:
        self._kernel = kernel
        self._records = records
        self._local = local

    def assess(self, known: Known, scope: Scope | None) -> Assessment:
        """Look at everything, or where `scope` says; raise `KernelError`, or `NotFound` without an underlay."""
        standing, facts = self._stand(known, scope)
        looked_at = None
        if scope:
            standing = replace(standing, tracker=standing.tracker.doubting(scope.namespaces))
            pending = standing.tracker.pending(standing.desired.spaces) if scope.with_news else frozenset()
            looked_at = self._within(scope.namespaces | pending, standing)
        keeps_rules = _keeps_rules(known, standing.used, facts)
        plan = self._plan(known, standing, facts, looked_at, keeps_rules=keeps_rules)
        revived = known.revived | self._kernel.revived()  # known once everything is observed
        return Assessment(
            standing, facts, plan, tuple(self._problems(standing, facts)), looked_at, revived, keeps_rules
        )

    def beginning(self, known: Known, network: NetworkName) -> Beginning | None:
        """Look at the devices of one network; None unless they are all as desired. Raises as `assess` does."""
        membership = known.standing.desired.membership.of(known.cluster, self._local.host)
        used, facts, site = self._ground(known, membership, None)
        devices = known.standing.desired.devices(network, known.cluster, site) if site else frozenset()
        if site is None or not devices or self._kernel.missing(devices):
            return None
        return Beginning(site, _keeps_rules(known, used, facts))

    def _ground(
        self, known: Known, membership: Membership, surroundings: Surroundings | None
    ) -> tuple[Mapping[NetworkName, Network], Facts, Site | None]:
        """Return the networks that endpoints here use, the facts, and the site."""
        before, cluster = known.standing, known.cluster
        facts = gather(self._kernel, self._local, known.recorded, cluster, membership, surroundings)
        networks = frozenset(network for network, *_ in known.recorded.attachments)
        used = remembered(before.used, cluster, networks)
        checksums = known.software_checksums
        site = site_of(facts, self._local, cluster, used, software_checksums=checksums)
        if site is None and before.site:
            site = with_endpoints(before.site, facts, cluster, software_checksums=checksums)
        return used, facts, site

    def _stand(self, known: Known, scope: Scope | None) -> tuple[Standing, Facts]:
        """Gather the facts, and return the updated standing."""
        before, cluster = known.standing, known.cluster
        membership = before.desired.membership.of(cluster, self._local.host)
        networks = tuple(cluster.networks[name] for name in membership.blocks)
        # Foreign routes change without a notification and decide about uplinks: read them again for a new network.
        is_as_chosen = scope and HOST not in scope.namespaces and networks == before.networks
        used, facts, site = self._ground(known, membership, before.surroundings if is_as_chosen else None)
        if site is None:
            return Standing(None, used), facts
        endpoints = [attachment.endpoint for attachment in facts.present]
        desired = before.desired.of(cluster, site, endpoints)
        shortcomings = before.shortcomings.of(cluster, site, desired, endpoints)
        return Standing(site, used, desired, shortcomings, before.tracker, networks, facts.surroundings), facts

    def _within(self, namespaces: frozenset[NamespaceRef], standing: Standing) -> frozenset[NamespaceRef]:
        """Return which of these namespaces are ours: of this host's networks, or left in the kernel."""
        observed = frozenset(ns for ns in namespaces if ownership.is_observed(ns))  # and no sandbox, which is not ours
        known = {HOST, *standing.desired.spaces, *standing.tracker.reached}
        return observed & (known if known.issuperset(observed) else known | self._kernel.namespaces())

    def _plan(
        self,
        known: Known,
        standing: Standing,
        facts: Facts,
        looked_at: frozenset[NamespaceRef] | None,
        *,
        keeps_rules: bool,
    ) -> Plan:
        """Observe what the tracker does not know, and return the plan that leads from there to the desired state."""
        spaces, kept = standing.desired.spaces, {network_namespace(name) for name in facts.unknown}
        missing, surplus = frozenset[Item](), frozenset[Item]()
        if looked_at is None:
            observable = self._kernel.namespaces() | {ns for ns in spaces if ownership.is_observed(ns)} | {HOST}
        else:
            places = looked_at - kept
            # Out of sync there may be more than was desired, which a look at everything deletes once it is in sync.
            asked = places if known.in_sync else frozenset()
            differences = {ns: standing.tracker.difference(ns, spaces.get(ns, frozenset())) for ns in asked}
            by_now = {ns: found for ns, found in differences.items() if found}
            missing = missing.union(*(each.missing for each in by_now.values()))
            surplus = surplus.union(*(each.surplus for each in by_now.values()))
            observable = places - by_now.keys()
        observable -= kept
        if not observable:
            return between(missing, surplus, frozenset())
        found = self._kernel.observe(observable)
        # An older agent may have cut this host off, so that no controller ever says what is to be deleted.
        severing = uplink.severing(found, self._vital(known, standing, facts))
        observed = without_strays(uplink.without(found, facts.kept_uplinks), facts.strays) | severing
        inside = frozenset[Item]().union(*(state for ns, state in spaces.items() if not ownership.is_observed(ns)))
        desired = frozenset[Item]().union(*(spaces.get(ns, frozenset()) for ns in observable))
        if not known.in_sync:
            # Of a network that no record describes, no rule can be made again either.
            tables = (ownership.VXLAN_TABLE, ownership.TABLE) if keeps_rules else (ownership.VXLAN_TABLE,)
            desired = retain(desired, observed - severing, tables)
        return between(desired | missing, observed | surplus, inside)

    def _vital(self, known: Known, standing: Standing, facts: Facts) -> Lifelines:
        desired = standing.desired
        if desired.hosts is known.cluster.hosts and desired.vital == facts.lifelines:
            return desired.choice.lifelines
        return Lifelines([*of_hosts(known.cluster.hosts.values()), *facts.lifelines])

    def restoration(self, found: Assessment) -> Plan:
        """Return the operations that restore what sandboxes lost while their devices were down."""
        items = set[Item]()
        for attachment in found.facts.present if found.revived else ():
            endpoint = attachment.endpoint
            if (network_namespace(endpoint.network), host_end(endpoint.key)) in found.revived:
                desired: State = found.standing.desired.spaces.get(NamespaceRef(endpoint.sandbox), frozenset())
                inside = in_sandbox(desired, endpoint)
                items |= inside if attachment.has_way_out else without_way_out(inside)
        return restoration(self._kernel.missing(frozenset(items))) if items else Plan(())

    def _problems(self, standing: Standing, facts: Facts) -> Iterator[Problem]:
        """Yield the problems that are known before anything is executed."""
        for endpoint in (attachment.endpoint for attachment in facts.gone):
            name = f"endpoint {endpoint.network}/{endpoint.container_id}/{endpoint.interface}"
            reason = f"its sandbox {endpoint.sandbox} is gone; a DEL frees its addresses, or a look in a minute"
            yield Problem(name, reason, endpoint.network)
        if facts.shortage:
            yield Problem("host", f"nothing new is attached: {facts.shortage}")
        yield from standing.shortcomings.problems
        for name, count in facts.unknown.items():
            reason = f"this host has no block of it; its {count} endpoints are left as they are"
            yield Problem(f"network {name}", reason, name)
        yield from unrecorded(facts.strays, self._records.set_aside)


def _keeps_rules(known: Known, used: Mapping[NetworkName, Network], facts: Facts) -> bool:
    """Return whether the host's rules stay as they are: those of a network that nothing describes cannot be made."""
    return not known.in_sync and any(name not in used for name in facts.unknown)
