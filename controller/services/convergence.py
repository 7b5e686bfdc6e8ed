"""Whether a revision is in force: which hosts have it in their kernels, which lag, and why."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from controller.clock import Clock
from controller.services.hosts import Hosts
from controller.services.mirror import Mirror
from controller.services.networks import Networks
from controller.services.presence import Presence
from overlayd.model.errors import InvalidValue
from overlayd.model.host import Host, HostState
from overlayd.model.ids import HostId, NetworkName, Revision

_LOOK_INTERVAL = 0.05
"""Seconds between looks at all hosts for one who waits: with many hosts they report many times a second."""


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host and what is heard of it now; no presence means that it is not connected."""

    host: Host
    presence: Presence | None

    def lag(self, revision: Revision, network: NetworkName | None) -> str | None:
        """Return why a revision is not in force on the host, None when it is; of one network, or of all."""
        if self.presence is None:
            return "not connected"
        applied, problems = self.presence.applied, self.presence.problems
        if network is not None:
            problems = tuple(problem for problem in problems if problem.network in (None, network))
        if applied is None:
            return "has not reported yet"
        if applied < revision:
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


class Statuses:
    """What is known of the hosts' own state."""

    def __init__(self, mirror: Mirror, hosts: Hosts, networks: Networks) -> None:
        self._mirror = mirror
        self._hosts = hosts
        self._networks = networks

    def get(self, host: HostId) -> HostStatus:
        """Return the status of a host; raise `NotFound`."""
        return HostStatus(self._hosts.get(host), self._mirror.presence(host))

    def all(self) -> list[HostStatus]:
        return [HostStatus(host, self._mirror.presence(host.id)) for host in self._hosts.all()]

    def convergence(self, revision: Revision | None, network: NetworkName | None) -> Convergence:
        """Tell how far a revision (default: the latest of the intent) is in force.

        Every host that is not being forgotten counts, or of those the ones with a block of `network`, and what goes
        wrong in other networks does not. Raises `NotFound`, or `InvalidValue` for a revision that is yet to come.
        """
        latest = self._mirror.intent_revision
        wanted = latest if revision is None else revision
        if wanted > max(latest, self._mirror.revision):
            raise InvalidValue(f"there is no revision {wanted} yet; the latest is {latest}", field="revision")
        statuses = [status for status in self.all() if status.host.state is not HostState.FORGETTING]
        if network is not None:
            members = self._mirror.intent.members(self._networks.get(network).name)
            statuses = [status for status in statuses if status.host.id in members]
        return Convergence(wanted, tuple((status, status.lag(wanted, network)) for status in statuses))

    async def settled(
        self, revision: Revision | None, network: NetworkName | None, patience: float, clock: Clock
    ) -> Convergence:
        """Return the convergence as soon as no host lags, or after `patience` seconds. Raises as `convergence` does."""
        found = self.convergence(revision, network)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while found.in_force < len(found.lags):
                    await self._mirror.advance()
                    await clock.sleep(_LOOK_INTERVAL)
                    found = self.convergence(found.revision, network)
        return found
