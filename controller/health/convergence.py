"""Whether a revision is in force: which hosts have it in their kernels, which lag, and why."""

import asyncio
from dataclasses import dataclass, replace

from controller.clock import Clock
from controller.rules.recovery import Recovery
from controller.services.hosts import Hosts
from controller.services.networks import Networks
from controller.state import visibility
from controller.state.host_presence import HostPresence
from controller.state.intent import IntentChange
from controller.state.mirror import Mirror
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, NetworkName, Revision

_LOOK_INTERVAL = 0.05
"""Seconds between looks at a host for one who waits: many hosts report many times a second."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host and its present status; without a presence it is not connected.

    `concerned` is the revision that said something to the host last: with it in force, all later ones are. It is
    awaited while a restored store lacks its statement.
    """

    host: Host
    presence: HostPresence | None
    concerned: Revision
    is_awaited: bool = False

    def lag(self, revision: Revision, network: NetworkName | None) -> str | None:
        """Return why a revision is not in force on the host, None when it is; of one network, or of all."""
        if self.presence is None:
            return "not connected"
        applied, problems = self.presence.applied, self.presence.problems
        if network is not None:
            problems = tuple(problem for problem in problems if problem.network in (None, network))
        if applied is None:
            return "has not reported yet"
        if applied < min(revision, self.concerned):
            return f"at revision {applied}"
        if problems:
            more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
            return f"{problems[0].object}: {problems[0].message}{more}"
        return None


@dataclass(frozen=True, slots=True)
class Convergence:
    """The hosts that a revision concerns, each with the reason why it lags, if it does."""

    revision: Revision
    lags: tuple[tuple[HostStatus, str | None], ...]

    @property
    def in_force(self) -> int:
        """On how many hosts the revision is in force."""
        return sum(lag is None for _, lag in self.lags)


class Concerns:
    """Which revision said something to each host last.

    Hosts hear of the others by bookmarks, which come at a pace: who waits for a revision need not wait for those.
    """

    def __init__(self, mirror: Mirror) -> None:
        self._mirror = mirror
        self._all = Revision(0)
        self._of: dict[HostId, Revision] = {}
        mirror.listen(self._on_change)

    def last(self, host: HostId) -> Revision:
        """Return the last revision that said something to a host, or a later one as long as that is not known."""
        return max(self._all, self._of.get(host, self._all))

    def _on_change(self, change: IntentChange) -> None:
        # A change without records says that the mirror was read again: any host may have been concerned.
        hosts = visibility.concerned(self._mirror.intent, change) if change.records else None
        if hosts is None:
            self._all = change.revision
            self._of.clear()
        else:
            self._of.update(dict.fromkeys(hosts, change.revision))


class Statuses:
    """The status of hosts, as they report it."""

    def __init__(self, mirror: Mirror, hosts: Hosts, networks: Networks, recovery: Recovery) -> None:
        self._mirror = mirror
        self._hosts = hosts
        self._networks = networks
        self._recovery = recovery
        self._concerns = Concerns(mirror)

    def get(self, host: HostId) -> HostStatus:
        """Return the status of a host; raise `NotFound`."""
        return self._of(self._hosts.get(host))

    def all(self) -> list[HostStatus]:
        return [self._of(host) for host in self._hosts.all()]

    def _of(self, host: Host) -> HostStatus:
        presence, concerned = self._mirror.presence(host.id), self._concerns.last(host.id)
        return HostStatus(host, presence, concerned, self._recovery.is_awaited(host))

    async def settled(
        self, revision: Revision | None, network: NetworkName | None, patience: float, clock: Clock
    ) -> Convergence:
        """Return the convergence of any revision (default: the latest) when no host lags, or `patience` seconds later.

        Raises `NotFound`, `Unavailable`, or `InvalidValue` for a revision that is yet to come.
        """
        wanted = await self._wanted(revision)
        found = self.convergence(wanted, network)
        try:
            async with asyncio.timeout(patience):
                while found.in_force < len(found.lags):
                    await self._none_lags([status.host.id for status, lag in found.lags if lag], wanted, network, clock)
                    found = self.convergence(wanted, network)
        except TimeoutError:
            found = self.convergence(wanted, network)
        return found if revision is None else replace(found, revision=revision)

    async def _wanted(self, revision: Revision | None) -> Revision:
        """Return the revision of the intent for a revision of the store: hosts know no others."""
        if revision is None or revision > self._mirror.revision:
            # Another controller may have written what this one has not heard of yet.
            if revision is not None and revision > (newest := await self._mirror.stored_revision()):
                raise InvalidValue(f"there is no revision {revision} yet; the latest is {newest}", field="revision")
            await self._mirror.verify()
        latest = self._mirror.intent_revision
        return latest if revision is None else min(revision, latest)

    def convergence(self, revision: Revision | None, network: NetworkName | None) -> Convergence:
        """Return on which hosts a revision of the intent (default: the latest that this controller knows) is in force.

        Every host that is not being forgotten counts, or of those the ones with a block of `network`, and what goes
        wrong in other networks does not. Raises `NotFound`.
        """
        wanted = self._mirror.intent_revision if revision is None else revision
        statuses = [status for status in self.all() if status.host.state is not HostState.FORGETTING]
        if network is not None:
            members = self._mirror.intent.members(self._networks.get(network).name)
            statuses = [status for status in statuses if status.host.id in members]
        return Convergence(wanted, tuple((status, status.lag(wanted, network)) for status in statuses))

    async def _none_lags(
        self, hosts: list[HostId], wanted: Revision, network: NetworkName | None, clock: Clock
    ) -> None:
        """Return when each of the hosts has been seen without a lag; while one lags, only that one is checked."""
        for host in hosts:
            while self._lags(host, wanted, network):
                await self._mirror.advance()
                await clock.sleep(_LOOK_INTERVAL)

    def _lags(self, host: HostId, wanted: Revision, network: NetworkName | None) -> bool:
        known = self._mirror.intent.hosts.get(host)
        if known is None or known.state is HostState.FORGETTING:
            return False
        if network is not None and network not in self._mirror.intent.networks_of(host):
            return False
        return self._of(known).lag(wanted, network) is not None
