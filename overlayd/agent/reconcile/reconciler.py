"""The reconcile cycle: resolve → observe → diff → plan → apply."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import structlog

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.controller_addresses import ControllerAddresses
from overlayd.agent.reconcile.drift import Drift
from overlayd.agent.reconcile.shortcomings import shortcomings, unrecorded, without_ipv6
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.records.presence import Presence, presence
from overlayd.agent.records.recovery import without_strays
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.kernel_lock import KernelTurn, Turn
from overlayd.agent.runtime.shared_run import SharedRun
from overlayd.agent.runtime.signals import Changes
from overlayd.dataplane import ownership, uplink
from overlayd.dataplane.diff import diff, restoration, retain
from overlayd.dataplane.endpoint import host_end, in_sandbox, without_way_out
from overlayd.dataplane.firewall import Metadata
from overlayd.dataplane.items import (
    HOST,
    Item,
    Link,
    Namespace,
    NamespaceRef,
    NftTable,
    State,
    Sysctl,
    network_namespace,
)
from overlayd.dataplane.plan import Plan
from overlayd.dataplane.resolve import Desired, joined
from overlayd.dataplane.site import Site
from overlayd.kernel.port import KernelError, Outcome, Surroundings
from overlayd.model.address import Family, IpAddress, alone
from overlayd.model.bandwidth import UNLIMITED, Bandwidth
from overlayd.model.cluster import UNKNOWN, Cluster
from overlayd.model.endpoint import Endpoint, EndpointKey
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import HostId, InterfaceName, NetworkName, Revision
from overlayd.model.lifelines import Lifeline, Lifelines, of_hosts
from overlayd.model.network import Network
from overlayd.model.published_port import Published
from overlayd.model.reservation import lost_addresses

_log = structlog.get_logger(__name__)

_FIRST_WORD = 0.5
"""Seconds that an agent waits for a controller before it works on what it knew."""

Scope = frozenset[NamespaceRef] | None
"""The namespaces to look at; None: all of them."""

Key = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """How far this host is: the revision that its kernel matches but for these problems.

    Until `is_pruned` there may be more in the kernel: what is not desired is deleted only when a feed is in sync.
    """

    applied: Revision = UNKNOWN
    problems: tuple[Problem, ...] = ()
    is_pruned: bool = False


@dataclass(frozen=True, slots=True)
class Local:
    """What the settings say of this host. VXLAN's ports are in host byte order, `resync` is in seconds."""

    host: HostId
    vxlan_port: int
    resync: float
    former_vxlan_ports: frozenset[int]
    controllers: ControllerAddresses
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Draft:
    """A plan, the networks that it brings into force, and what was wrong already before it.

    `revived` are the host's ends of veth pairs to whose sandboxes it gives back what they lost.
    """

    plan: Plan
    networks: frozenset[NetworkName]
    problems: tuple[Problem, ...]
    revived: frozenset[tuple[NamespaceRef, InterfaceName]]


class Reconciler:
    """Makes the kernel match the cluster and the local attachments.

    Woken by a change of either, by somebody else's change of the kernel (then it looks where that was), by a failure
    (after a growing time), and by a slow periodic resync.
    """

    def __init__(
        self,
        turn: KernelTurn,
        feed: ClusterFeed,
        records: AttachmentRecords,
        checksums: Checksums,
        local: Local,
    ) -> None:
        self.status = Status()
        self.keeps_rules = False
        """Whether the host's rules stay as they are for now, and no port can be published."""
        self.reports = Changes()
        self.drift = Drift(turn)
        self._turn = turn
        self._feed = feed
        self._records = records
        self.checksums = checksums
        self._local = local
        self._site: Site | None = None
        self._ready: frozenset[NetworkName] = frozenset()
        self._refused: dict[Key, Outcome] = {}
        self._noticed_by: dict[str, tuple[Problem, ...]] = {}
        self._applied = Cluster()
        self._used = dict[NetworkName, Network]()
        self._cycles = SharedRun()
        self._redirections = SharedRun()
        self._to_redirect: set[NamespaceRef] = set()
        self._not_redirected: dict[NamespaceRef, KernelError] = {}
        self._desired = Desired()
        self._resolved: tuple[Cluster, Site, list[Endpoint], State, tuple[Problem, ...]] | None = None

    async def run(self) -> None:
        """Keep the kernel as desired, for ever."""
        now = asyncio.get_running_loop().time
        wake = Changes(self._feed.changes, self.drift.changes)
        backoff = Backoff(shortest=0.2, longest=self._local.resync)
        # A controller that is there says within a moment what still holds of the cached cluster: one look is enough.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WORD):
                await self._feed.syncs.wait(0)
        everywhere, due = True, now()
        while True:
            seen, had_problems = wake.count, bool(self.status.problems)
            suspects = self.drift.take()
            status = await self.cycle(None if everywhere else suspects)
            if status.problems and (everywhere or not had_problems):
                due = now() + backoff.failed()
            elif everywhere:
                backoff.succeeded()
                due = now() + self._local.resync
            try:
                async with asyncio.timeout_at(due):
                    await wake.wait(seen)
                everywhere = False
            except TimeoutError:
                everywhere = True

    async def cycle(self, suspects: Scope = None) -> Status:
        """Go through the cycle once, everywhere or where something may be wrong; return and keep how far it got."""
        await self._local.controllers.known()  # before a network of the cached cluster takes their addresses
        async with self._turn.taken():
            cluster, in_sync = self._feed.cluster, self._feed.in_sync
            # The underlay, in the host's own namespace, is everybody's; with news of the cluster there is more to do.
            is_news = in_sync != self.status.is_pruned or not self._applied.has_records_of(cluster)
            scope = None if suspects is None or HOST in suspects or is_news else suspects
            if scope is not None and not scope and not self.drift.revived:
                return self._keep(replace(self.status, applied=cluster.revision))
            try:
                draft = await self._turn.call(self._draft, cluster, scope, may_delete=in_sync)
                outcomes = await self._turn.call(self._apply, draft)
            except OverlayError as error:
                self._applied = Cluster()
                return self._keep(replace(self.status, problems=(Problem("host", str(error)),)))
            self._applied = cluster
            is_asked_for, self._to_redirect = bool(self._to_redirect), self._to_redirect - (scope or self._to_redirect)
            self._refused = _still_refused(self._refused, outcomes, scope)
            failed = {outcome.op.item.ns for outcome in self._refused.values() if _is_device(outcome)}
            self._ready = frozenset(name for name in draft.networks if network_namespace(name) not in failed)
        if draft.revived and any(not ownership.is_observed(op.item.ns) for op in draft.plan):
            _log.info("restored what went as containers' devices were down", devices=sorted(draft.revived))
        if suspects and draft.plan and not (is_news or is_asked_for):
            _log.info("repaired external change", namespaces=sorted(suspects), operations=len(draft.plan))
        refused = _problems(self._refused.values(), self._places(cluster))
        noticed = (problem for problems in self._noticed_by.values() for problem in problems)
        problems = (*draft.problems, *refused, *noticed)
        return self._keep(Status(cluster.revision, problems, in_sync))

    async def redirect(self, network: NetworkName, turn: Turn) -> None:
        """Let the ports lead to this network's containers that the records say; raise what the kernel refused.

        Those who ask at the same time share one look at the kernel and one change of it. It waits for the kernel's
        turn, which the caller must not have, in the queue of the caller: behind others that may need the same.
        """
        ns = network_namespace(network)
        self._to_redirect.add(ns)
        try:
            await self._redirections.after_now(lambda: self._redirect(ns, turn))
        except (asyncio.CancelledError, OverlayError):
            self.redirect_soon(network)
            raise
        if refused := self._not_redirected.get(HOST) or self._not_redirected.get(ns):
            raise KernelError(refused.errno, refused.detail)  # one of its own for each that asked

    def redirect_soon(self, network: NetworkName) -> None:
        """Do the same with the next cycle, which is woken."""
        self.drift.suspect(frozenset({HOST, network_namespace(network)}))

    async def _redirect(self, ns: NamespaceRef, turn: Turn) -> None:
        async with turn():
            scope, self._to_redirect = self._to_redirect | {HOST, ns}, set()
            try:
                outcomes = await self._turn.call(self._turn.kernel.apply, await self._plan_within(frozenset(scope)))
            except (asyncio.CancelledError, OverlayError):
                self._to_redirect |= scope  # those who share the next run count on it for their networks too
                raise
        self._not_redirected = {
            outcome.op.item.ns: KernelError(outcome.error.errno, f"cannot publish ports: {outcome.error.detail}")
            for outcome in outcomes
            if outcome.error and isinstance(outcome.op.item, NftTable | Sysctl)
        }

    async def misdirected(self, network: NetworkName) -> frozenset[Item]:
        """Return what of the tables by which ports lead to this network's containers is not as the records say.

        Nothing while they are about to be written. The caller holds the kernel's turn.
        """
        if self._to_redirect:
            return frozenset()
        plan = await self._plan_within(frozenset({HOST, network_namespace(network)}))
        self._mend_soon(plan)
        return frozenset(op.item for op in plan if isinstance(op.item, NftTable | Sysctl))

    async def _plan_within(self, scope: frozenset[NamespaceRef]) -> Plan:
        """Return what is to be done in these namespaces."""
        draft = await self._turn.call(self._draft, self._feed.cluster, scope, may_delete=self._feed.in_sync)
        return draft.plan

    async def plan(self) -> Plan:
        """Return what the next cycle would execute, and see to it that it comes soon."""
        async with self._turn.taken():
            draft = await self._turn.call(self._draft, self._feed.cluster, None, may_delete=self._feed.in_sync)
        self._mend_soon(draft.plan)
        return draft.plan

    def _mend_soon(self, plan: Plan) -> None:
        """Look again where a plan that nobody executes has something to do: observing threw the kernel's news away."""
        if plan:
            self.drift.suspect(frozenset(op.item.ns for op in plan))

    async def ensure(self, network: NetworkName) -> None:
        """Return when the network's devices are in force on this host; raise `Unavailable` when they cannot be."""
        was_ready = network in self._ready
        is_in_place = was_ready and await self._is_in_place(network)
        if not is_in_place:
            await self._cycles.unless(lambda: not was_ready and network in self._ready, self.cycle)
            is_in_place = network in self._ready and await self._is_in_place(network)
        if not is_in_place:
            reasons = "; ".join(map(str, self.status.problems)) or "it has no block on this host"
            raise Unavailable(f"network {network} is not in force on this host: {reasons}")
        known = self._feed.cluster.networks.get(network)
        if known and self._site and known.families == {Family.V6} and (reason := without_ipv6(self._site)):
            raise Unavailable(f"network {network}: {reason}")

    async def refresh(self) -> None:
        """Run a cycle that begins after this call, and return when it has ended; concurrent callers share it."""
        await self._cycles.after_now(self.cycle)

    async def _is_in_place(self, network: NetworkName) -> bool:
        return await self._turn.call(self._turn.kernel.is_in_place, network_namespace(network))

    @property
    def site(self) -> Site | None:
        """What holds on this host, as of the last cycle; None before the first one."""
        return self._site

    @property
    def mtu(self) -> int:
        """The MTU of the overlay's devices in bytes, as of the last cycle; 0 before the first one."""
        return self._site.mtu if self._site else 0

    def notice(self, by: str, problems: tuple[Problem, ...]) -> None:
        """Report these too from now on, in place of what the same one noticed before: what other actors found out."""
        before = self._noticed_by.get(by, ())
        if problems != before:
            kept = tuple(problem for problem in self.status.problems if problem not in before)
            self._noticed_by[by] = problems
            self._keep(replace(self.status, problems=(*kept, *problems)))

    @property
    def networks(self) -> tuple[NetworkName, ...]:
        """The networks that are in force on this host, by name."""
        return tuple(sorted(self._ready))

    def _draft(self, cluster: Cluster, scope: Scope, *, may_delete: bool) -> Draft:
        """Resolve, observe and diff."""
        kernel, me = self._turn.kernel, cluster.hosts.get(self._local.host)
        present, out_of_reach, problems = self._present_endpoints()
        self._release_strays()
        if shortage := kernel.shortage():
            problems.append(Problem("host", f"nothing new is attached: {shortage}"))
        names = joined(cluster, self._local.host)
        networks = {network_namespace(name) for name in names}
        unknown = Counter(e.network for e in self._records.endpoints if e.network not in names)
        unknown.update(stray.network for stray in self._records.strays if stray.network not in names)
        kept = {network_namespace(name) for name in unknown}
        kept_uplinks = uplink.host_devices(kernel.observe(kept))
        self._remember_used(cluster)
        forgotten = tuple(self._used[name] for name in sorted(unknown) if name in self._used)
        surroundings = kernel.surroundings()
        vital = _lifelines(surroundings) | self._local.controllers.lifelines
        if me:
            self._site = Site(
                self._local.host,
                Family.of(me.address),
                kernel.underlay(me.address, _peers(cluster, names)).mtu,
                self._local.vxlan_port,
                # What this host asks its nameservers is lost as what follows its routes is.
                surroundings.routes | {alone(address) for address in self._local.controllers.nameservers},
                vital,
                forgotten,
                kept_uplinks,
                former_vxlan_ports=self._local.former_vxlan_ports,
                metadata=self._local.metadata,
            )
        if self._site:
            self._site = replace(
                self._site,
                published=self._published(cluster, present),
                bandwidths=self._bandwidths(present),
                out_of_reach=out_of_reach,
                unguarded=frozenset(e.key for e in present if not self._records.attachments[e.key].is_guarded),
                software_checksums=self.checksums.in_software,
                ways_out=surroundings.ways_out,
            )
        desired, lacking = frozenset[Item](), tuple[Problem, ...]()
        if self._site:
            desired, lacking = self._resolve(cluster, self._site, present)
        problems += lacking
        problems += [
            Problem(
                f"network {name}", f"this host has no block of it; its {count} endpoints are left as they are", name
            )
            for name, count in unknown.items()
        ]
        looked_at = (kernel.namespaces() | networks | {HOST}) - kept
        whole = desired
        if scope is not None:
            looked_at &= scope
            desired = frozenset(item for item in desired if item.ns in looked_at or not ownership.is_observed(item.ns))
        found = kernel.observe(looked_at)
        # An older agent may have cut this host off, so that no controller ever says what is to be deleted.
        severing = uplink.severing(found, Lifelines([*of_hosts(cluster.hosts.values()), *vital]))
        problems += unrecorded(self._records)
        observed = without_strays(uplink.without(found, kept_uplinks), self._records.strays) | severing
        self.keeps_rules = not may_delete and len(forgotten) < len(unknown)
        if not may_delete:
            # Of a network that nobody here knows, nobody knows the rules either.
            tables = (ownership.VXLAN_TABLE, ownership.TABLE) if self.keeps_rules else (ownership.VXLAN_TABLE,)
            desired = retain(desired, observed - severing, tables)
        plan = Plan((*diff(desired, observed), *self._restoration(whole, present)))
        return Draft(plan, names, tuple(problems), self.drift.revived)

    def _apply(self, draft: Draft) -> tuple[Outcome, ...]:
        outcomes = self._turn.kernel.apply(draft.plan)
        self.drift.revived -= draft.revived
        return outcomes

    def _restoration(self, desired: State, present: Iterable[Endpoint]) -> Plan:
        """Return what gives those sandboxes back what they lost whose devices were down and came up again."""
        self.drift.saw_revived()
        items = set[Item]()
        for endpoint in present if self.drift.revived else ():
            if (network_namespace(endpoint.network), host_end(endpoint.key)) in self.drift.revived:
                inside = in_sandbox(desired, endpoint)
                has_way_out = self._records.attachments[endpoint.key].has_way_out
                items |= inside if has_way_out else without_way_out(inside)
        return restoration(self._turn.kernel.missing(frozenset(items))) if items else Plan(())

    def _release_strays(self) -> None:
        """Let go of interfaces without a record that are gone: a veth pair goes with its sandbox."""
        has_device = self._turn.kernel.has_device
        strays = self._records.strays
        self._records.release([each for each in strays if not has_device(network_namespace(each.network), each.device)])

    def _remember_used(self, cluster: Cluster) -> None:
        """Keep in mind what the networks are that endpoints here use: rules must outlive a store that was lost."""
        used = {endpoint.network for endpoint in self._records.endpoints}
        now = ((name, cluster.networks.get(name) or self._used.get(name)) for name in used)
        self._used = {name: network for name, network in now if network}

    def _resolve(self, cluster: Cluster, site: Site, endpoints: list[Endpoint]) -> tuple[State, tuple[Problem, ...]]:
        """Return the desired state and what it falls short of, or the last ones again when they come of the same."""
        known = self._resolved
        if known is None or not known[0].has_records_of(cluster) or known[1:3] != (site, endpoints):
            lacking = tuple(shortcomings(cluster, site, joined(cluster, site.host), endpoints))
            self._desired = self._desired.of(cluster, site, endpoints)
            known = self._resolved = (cluster, site, endpoints, self._desired.state, lacking)
        return known[3:]

    def _present_endpoints(self) -> tuple[list[Endpoint], frozenset[EndpointKey], list[Problem]]:
        """Return the endpoints whose sandbox is still there, those of them that are out of reach, and what is wrong."""
        present, out_of_reach, problems = [], set(), []
        for attachment in self._records.attachments.values():
            endpoint = attachment.endpoint
            found = presence(self._turn.kernel, attachment)
            if found is not Presence.GONE:
                present.append(endpoint)
                if found is Presence.OUT_OF_REACH:
                    out_of_reach.add(endpoint.key)
            else:
                name = f"endpoint {endpoint.network}/{endpoint.container_id}/{endpoint.interface}"
                reason = f"its sandbox {endpoint.sandbox} is gone; a DEL frees its addresses, or a look in a minute"
                problems.append(Problem(name, reason, endpoint.network))
        return present, frozenset(out_of_reach), problems

    def _bandwidths(self, present: Iterable[Endpoint]) -> tuple[tuple[Endpoint, Bandwidth], ...]:
        """Return those of these endpoints that are limited."""
        found = ((endpoint, self._records.attachments[endpoint.key].bandwidth) for endpoint in present)
        return tuple((endpoint, bandwidth) for endpoint, bandwidth in found if bandwidth != UNLIMITED)

    def _published(self, cluster: Cluster, present: Iterable[Endpoint]) -> tuple[Published, ...]:
        """Return the ports that lead to these endpoints, at the addresses that they have not lost."""
        found: list[Published] = []
        for endpoint in present:
            if ports := self._records.attachments[endpoint.key].ports:
                lost = lost_addresses(endpoint, cluster.reserved(endpoint.network))
                kept = tuple(address for address in endpoint.addresses if address not in lost)
                found += (Published(endpoint.network, kept, mapping) for mapping in ports)
        return tuple(sorted(found, key=lambda published: published.order))

    def _places(self, cluster: Cluster) -> dict[NamespaceRef, NetworkName | None]:
        """Return the network that each namespace is for; None for a sandbox that is in several."""
        places: dict[NamespaceRef, NetworkName | None] = {network_namespace(name): name for name in cluster.networks}
        for endpoint in self._records.endpoints:
            sandbox = NamespaceRef(endpoint.sandbox)
            places[sandbox] = endpoint.network if places.get(sandbox, endpoint.network) == endpoint.network else None
        return places

    def _keep(self, status: Status) -> Status:
        if status != self.status:
            for problem in set(status.problems) - set(self.status.problems):
                _log.warning("problem", object=problem.object, problem=problem.message)
            for problem in set(self.status.problems) - set(status.problems):
                _log.info("problem is over", object=problem.object, problem=problem.message)
            self.status = status
            self.reports.set()
        return status


def _peers(cluster: Cluster, networks: frozenset[NetworkName]) -> Iterator[IpAddress]:
    """Yield the tunnel ends of the hosts that take part in these networks, some more than once."""
    members = (cluster.hosts.get(block.host) for block in cluster.blocks.values() if block.network in networks)
    return (member.address for member in members if member)


def _lifelines(surroundings: Surroundings) -> frozenset[Lifeline]:
    own = {Lifeline(address, "an address of this host") for address in surroundings.addresses}
    return frozenset(own | {Lifeline(address, "a gateway of this host") for address in surroundings.next_hops})


def _still_refused(before: Mapping[Key, Outcome], outcomes: Iterable[Outcome], scope: Scope) -> dict[Key, Outcome]:
    """Return what is not done: of these outcomes, and of those before them in what was not looked at now."""
    if scope is None:
        found = {}
    else:
        found = {key: outcome for key, outcome in before.items() if outcome.op.item.ns not in scope}
    for outcome in outcomes:
        if outcome.done:
            found.pop(outcome.op.item.key, None)
        else:
            found[outcome.op.item.key] = outcome
    return found


def _is_device(outcome: Outcome) -> bool:
    """Tell whether a network cannot carry anything without this operation."""
    item = outcome.op.item
    if isinstance(item, Link):
        return item.name != ownership.UPLINK and not item.name.startswith(ownership.VETH_PREFIX)
    return isinstance(item, Namespace)


def _problems(outcomes: Iterable[Outcome], places: Mapping[NamespaceRef, NetworkName | None]) -> list[Problem]:
    return [
        Problem(str(outcome.op), str(outcome.error), places.get(outcome.op.item.ns))
        for outcome in outcomes
        if outcome.error
    ]
