"""The reconcile cycle: assess → apply → report."""

import asyncio
import contextlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

import structlog

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.reconcile.assessment import Assessment, Assessor, Beginning, Known, Scope, Standing
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.agent.reconcile.drift import Drift, heard
from overlayd.agent.reconcile.facts import Recorded
from overlayd.agent.reconcile.local import Local
from overlayd.agent.reconcile.report import HostReport, Key, Status, refusals, still_refused, without_devices
from overlayd.agent.reconcile.shortcomings import without_ipv6
from overlayd.agent.records.attachment_records import AttachmentRecords
from overlayd.agent.runtime.backoff import Backoff
from overlayd.agent.runtime.kernel_lock import KernelTurn, Turn
from overlayd.agent.runtime.shared_work import SharedRun
from overlayd.agent.runtime.signals import Changes
from overlayd.agent.runtime.under_way import to_the_end
from overlayd.dataplane import ownership
from overlayd.dataplane.desired.site import Site
from overlayd.dataplane.items import HOST, Item, NamespaceRef, NftTable, Sysctl, network_namespace
from overlayd.dataplane.plan import Plan
from overlayd.kernel.port import KernelError, Outcome
from overlayd.model.address import Family
from overlayd.model.cluster import Cluster
from overlayd.model.errors import OverlayError, Unavailable
from overlayd.model.ids import NetworkName
from overlayd.model.network import Uplink

_log = structlog.get_logger(__name__)

_FIRST_WORD = 0.5
"""Seconds that an agent waits for a controller before it works on what it knew."""


_LINGER = 0.05
"""Seconds that the first look at everything waits for an attachment whose network was found in force."""


class Reconciler:
    """Makes the kernel match the cluster and the local attachments.

    A cycle is started by a change of either, by a change of the kernel by others (which is observed where it was), by a
    failure (after a back-off), and by a slow periodic resync, which observes everything. All state is assigned on the
    event loop.
    """

    def __init__(
        self,
        turn: KernelTurn,
        feed: ClusterFeed,
        records: AttachmentRecords,
        checksums: Checksums,
        local: Local,
    ) -> None:
        self.keeps_rules = False
        """Whether the host's rules stay as they are for now, and no port can be published."""
        self.drift = Drift(turn)
        self.checksums = checksums
        self._turn = turn
        self._feed = feed
        self._records = records
        self._local = local
        self._assessor = Assessor(turn.kernel, records, local)
        self._report = HostReport()
        self._standing = Standing()
        self._applied = Cluster()
        self._ready: frozenset[NetworkName] = frozenset()
        self._begun: dict[NetworkName, Beginning] | None = {}
        """What was found of single networks before the first look at everything; None after that."""
        self._beginning = asyncio.Lock()
        self._begins: dict[NetworkName, asyncio.Event] = {}
        """Those networks that were looked at by themselves; each is set when that look has ended."""
        self._begun_at = -_LINGER
        self._refused: dict[Key, Outcome] = {}
        self._cycles = SharedRun()
        self._redirections = SharedRun()
        self._to_redirect: set[NamespaceRef] = set()
        self._not_redirected: dict[NamespaceRef, KernelError] = {}

    async def run(self) -> None:
        """Run cycles until cancelled."""
        now = asyncio.get_running_loop().time
        wake = Changes(self._feed.changes, self.drift.changes)
        backoff = Backoff(shortest=0.2, longest=self._local.resync)
        # A reachable controller confirms or replaces the cached cluster within a moment: then one cycle is enough.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WORD):
                await self._feed.syncs.wait(0)
        await self._serve_first()
        everywhere, due = True, now()
        while True:
            seen, had_problems = wake.count, bool(self.status.problems)
            suspects = self.drift.take()
            if everywhere:
                await self._cycles.after_now(self.cycle)
            else:
                await self.cycle(suspects)
            status = self.status
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

    async def _serve_first(self) -> None:
        """Return when no attachment waits whose network is in force, or after a moment: the first look takes longer."""
        now = asyncio.get_running_loop().time
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_WORD):
                is_served = False
                while not is_served:
                    async with self._beginning:
                        left = self._begun_at + _LINGER - now()
                    is_served = left <= 0
                    await asyncio.sleep(left)

    async def cycle(self, suspects: frozenset[NamespaceRef] | None = None) -> Status:
        """Run one cycle, for all namespaces or the suspected ones; keep and return the status."""
        await self._local.controllers.known()  # before a network of the cached cluster takes their addresses
        async with self._turn.taken():
            return await to_the_end(self._cycle(suspects))

    async def _cycle(self, suspects: frozenset[NamespaceRef] | None) -> Status:
        """Do so with the kernel lock held, to the end: cut short, it would leave items without an owner behind."""
        cluster, in_sync = self._feed.cluster, self._feed.in_sync
        is_news = in_sync != self.status.is_pruned or not self._applied.has_records_of(cluster)
        scope = self._scope(suspects, is_news=is_news)
        if scope and not scope.with_news and not scope.namespaces and not self.drift.revived:
            return self._report.keep(replace(self.status, applied=cluster.revision))
        try:
            found = await self._assess(scope, cluster, in_sync=in_sync)
            outcomes = await self._turn.call(self._turn.kernel.apply, found.plan)
        except OverlayError as error:
            self._applied = Cluster()
            self._forget(self._standing.tracker.reached)
            return self._report.keep(replace(self.status, problems=(Problem("host", str(error)),)))
        is_asked_for = bool(self._to_redirect)
        self._keep(found, outcomes, cluster)
        if found.revived and any(not ownership.is_observed(op.item.ns) for op in found.plan):
            _log.info("restored what went as containers' devices were down", devices=sorted(found.revived))
        if suspects and found.plan and not (is_news or is_asked_for):
            _log.info("repaired external change", namespaces=sorted(suspects), operations=len(found.plan))
        refused = refusals(self._refused.values(), cluster, self._records.endpoints)
        problems = (*found.problems, *refused, *self._report.noticed)
        changed = cluster.revision if is_news else self.status.changed
        return self._report.keep(Status(cluster.revision, problems, in_sync, changed))

    def _scope(self, suspects: frozenset[NamespaceRef] | None, *, is_news: bool) -> Scope | None:
        """Return the namespaces to assess: all of them if the underlay, which every network needs, may have changed."""
        if suspects is None or HOST in suspects or self._feed.in_sync != self.status.is_pruned:
            return None
        return Scope(suspects, with_news=is_news)

    async def _assess(self, scope: Scope | None, cluster: Cluster, *, in_sync: bool) -> Assessment:
        """Assess the host, and keep the result. The caller holds the kernel lock.

        Notifications are kept before anything else can fail: the kernel sends each of them once.
        """
        if scope and scope.with_news:
            news = await self._turn.call(heard, self._turn.kernel)
            self.drift.revived |= news.revived
            everywhere = HOST in news.namespaces
            scope = None if everywhere else replace(scope, namespaces=scope.namespaces | news.namespaces)
        known = self._known(cluster, in_sync=in_sync)
        found = await self._turn.call(self._assessor.assess, known, scope)
        self._standing = found.standing
        self.keeps_rules = found.keeps_rules
        self.drift.revived |= found.revived
        self._records.release(known.recorded.strays - found.facts.strays)
        if not found.revived:
            return found
        restoration = await self._turn.call(self._assessor.restoration, found)
        return replace(found, plan=Plan((*found.plan, *restoration)))

    def _known(self, cluster: Cluster, *, in_sync: bool) -> Known:
        recorded, checksums = Recorded.of(self._records), self.checksums.in_software
        return Known(cluster, in_sync, recorded, checksums, self.drift.revived, self._standing)

    async def _assess_aside(self, scope: Scope | None) -> Assessment:
        """Assess the host outside a cycle; after a failure the next cycle observes again what was drained."""
        try:
            return await to_the_end(self._assess(scope, self._feed.cluster, in_sync=self._feed.in_sync))
        except (asyncio.CancelledError, OverlayError):
            self._forget(self._standing.tracker.reached)
            self.drift.suspect(frozenset({HOST}))
            raise

    def _forget(self, namespaces: Collection[NamespaceRef]) -> None:
        self._standing = replace(self._standing, tracker=self._standing.tracker.forgetting(namespaces))

    def changed_aside(self, network: NetworkName) -> None:
        """Record that something was made or removed outside a cycle; the next cycle that has news looks there.

        The caller holds the kernel's turn.
        """
        self._forget({network_namespace(network)})

    def _keep(self, found: Assessment, outcomes: Iterable[Outcome], cluster: Cluster) -> None:
        """Record what is in force after the plan was executed."""
        self._applied = cluster
        self._to_redirect -= self._to_redirect if found.looked_at is None else found.looked_at
        self._refused = still_refused(self._refused, outcomes, found.looked_at)
        failed = {outcome.op.item.ns for outcome in self._refused.values()}
        # A sandbox is not observed: what is lost there is looked for only as long as its device is kept in mind.
        self.drift.revived -= found.revived - found.facts.ends_of(failed)
        spaces = found.standing.desired.spaces
        tracker = found.standing.tracker.after(spaces, found.looked_at, failed)
        # Items of unknown networks are left alone, and deleted once nothing uses them.
        kept = [network_namespace(name) for name in found.facts.unknown]
        self._standing = replace(self._standing, tracker=tracker.forgetting(kept) if kept else tracker)
        lacking = without_devices(self._refused.values())
        names = found.standing.desired.membership.blocks
        self._ready = frozenset(name for name in names if network_namespace(name) not in lacking)
        if found.looked_at is None:
            self._begun = None

    async def redirect(self, network: NetworkName, turn: Turn) -> None:
        """Redirect the published ports of this network as the records say; raise the kernel's error.

        Concurrent callers share one observation and one change. It waits for the kernel lock, which the caller must not
        hold, in the order of the calls.
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
        """Do the same in the next cycle, which this starts."""
        self.drift.suspect(frozenset({HOST, network_namespace(network)}))

    async def _redirect(self, ns: NamespaceRef, turn: Turn) -> None:
        async with turn():
            scope, self._to_redirect = self._to_redirect | {HOST, ns}, set()
            try:
                found = await self._assess_aside(Scope(frozenset(scope)))
                outcomes = await self._turn.call(self._turn.kernel.apply, found.plan)
            except (asyncio.CancelledError, OverlayError):
                self._to_redirect |= scope  # those who share the next run count on it for their networks too
                raise
        if refused := frozenset(outcome.op.item.ns for outcome in outcomes if not outcome.done):
            self.drift.suspect(refused)
        self._not_redirected = {
            outcome.op.item.ns: KernelError(outcome.error.errno, f"cannot publish ports: {outcome.error.detail}")
            for outcome in outcomes
            if outcome.error and isinstance(outcome.op.item, NftTable | Sysctl)
        }

    async def misdirected(self, network: NetworkName) -> frozenset[Item]:
        """Return the differences between the tables that redirect this network's ports and the records.

        Nothing while they are about to be written. The caller holds the kernel's turn.
        """
        if self._to_redirect:
            return frozenset()
        found = await self._assess_aside(Scope(frozenset({HOST, network_namespace(network)})))
        self._mend_soon(found.plan)
        return frozenset(op.item for op in found.plan if isinstance(op.item, NftTable | Sysctl))

    async def plan(self) -> Plan:
        """Return the plan that the next cycle would execute, and start that cycle if the plan is not empty."""
        async with self._turn.taken():
            found = await self._assess_aside(None)
        self._mend_soon(found.plan)
        return found.plan

    def _mend_soon(self, plan: Plan) -> None:
        """Start a cycle where a plan that was only shown has something to do: observing drained the notifications."""
        if plan:
            self.drift.suspect(frozenset(op.item.ns for op in plan))

    async def ensure(self, network: NetworkName, *, is_in_place: bool = False) -> None:
        """Return when the network's devices are in force on this host; raise `Unavailable` when they cannot be.

        `is_in_place` says that the caller has just seen the network's namespace in its place.
        """
        was_ready = network in self._ready or await self._has_begun(network)
        is_in_place = was_ready and (is_in_place or await self._is_in_place(network))
        if not is_in_place:
            await self._cycles.unless(lambda: not was_ready and network in self._ready, self.cycle)
            is_in_place = network in self._ready and await self._is_in_place(network)
        if not is_in_place:
            reasons = "; ".join(map(str, self.status.problems)) or "it has no block on this host"
            raise Unavailable(f"network {network} is not in force on this host: {reasons}")
        known = self._feed.cluster.networks.get(network)
        site = self._first_site
        if known and site and known.families == {Family.V6} and (reason := without_ipv6(site)):
            raise Unavailable(f"network {network}: {reason}")

    async def _has_begun(self, network: NetworkName) -> bool:
        """Return whether the network's devices are in force, before the first look at everything found them so.

        Only they are looked at. What led to other hosts stayed as it was while no agent ran; that look repairs it.
        """
        await self._local.controllers.known()
        if self._begun is not None:
            await self._begin_once(network)
        return self._begun is not None and network in self._begun

    async def _begin_once(self, network: NetworkName) -> None:
        """Look at the network's devices; those that wait for one network share the look, and go on together."""
        if network in self._begins:
            await self._begins[network].wait()
            return
        ended = self._begins[network] = asyncio.Event()
        try:
            async with self._beginning:
                await self._begin(network)
        except OverlayError:
            return  # the first look at everything reports why
        finally:
            ended.set()

    async def _begin(self, network: NetworkName) -> None:
        async with self._turn.taken():
            known = self._known(self._feed.cluster, in_sync=self._feed.in_sync)
            found = await self._turn.call(self._assessor.beginning, known, network)
            if found and self._begun is not None:
                self._begun[network] = found
                self._begun_at = asyncio.get_running_loop().time()
                self.keeps_rules = found.keeps_rules

    async def refresh(self) -> None:
        """Run a cycle that begins after this call, and return when it has ended; concurrent callers share it."""
        await self._cycles.after_now(self.cycle)

    async def _is_in_place(self, network: NetworkName) -> bool:
        return await self._turn.call(self._turn.kernel.is_in_place, network_namespace(network))

    @property
    def site(self) -> Site | None:
        """The site of this host, as of the last cycle; None before the first one."""
        return self._standing.site

    @property
    def _first_site(self) -> Site | None:
        """The same, known as soon as a network was found in force."""
        return self.site or next((found.site for found in (self._begun or {}).values()), None)

    @property
    def uplinks(self) -> Mapping[NetworkName, Uplink]:
        """The kinds of the uplinks of this host's networks, as of the last cycle."""
        return self._standing.desired.choice.kinds

    @property
    def mtu(self) -> int:
        """The MTU of the overlay's devices in bytes, as of the last cycle; 0 before any network was found in force."""
        site = self._first_site
        return site.mtu if site else 0

    @property
    def networks(self) -> tuple[NetworkName, ...]:
        """The networks that are in force on this host, by name."""
        return tuple(sorted(self._ready))

    @property
    def status(self) -> Status:
        """How far this host is. A revision that changes no record is in force when those that it leaves alone are."""
        status, known = self._report.status, self._feed.cluster
        is_later = known.revision != status.applied and status.is_pruned == self._feed.in_sync
        return replace(status, applied=known.revision) if is_later and self._applied.has_records_of(known) else status

    @property
    def reports(self) -> Changes:
        """Counts the changes of the status."""
        return self._report.changes

    def notice(self, by: str, problems: tuple[Problem, ...]) -> None:
        """Report these problems from now on, in place of those that the actor `by` noticed before."""
        self._report.notice(by, problems)
