"""Whether a revision is in force: which hosts have it in their kernels, which lag, and why."""

from dataclasses import dataclass

from controller.services.hosts import Hosts
from controller.services.mirror import Mirror
from controller.services.networks import Networks
from controller.services.presence import Presence
from overlayd.model.host import Host
from overlayd.model.ids import HostId, NetworkName, Revision


@dataclass(frozen=True, slots=True)
class HostStatus:
    """A host and what is heard of it now; no presence means that it is not connected."""

    host: Host
    presence: Presence | None

    def lag(self, revision: Revision) -> str | None:
        """Return why a revision is not in force on the host, None when it is."""
        if self.presence is None:
            return "not connected"
        applied, problems = self.presence.applied, self.presence.problems
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

        Every registered host counts, or those with a block of `network`. Raises `NotFound`.
        """
        wanted = self._mirror.intent_revision if revision is None else revision
        statuses = self.all()
        if network is not None:
            members = self._mirror.intent.members(self._networks.get(network).name)
            statuses = [status for status in statuses if status.host.id in members]
        return Convergence(wanted, tuple((status, status.lag(wanted)) for status in statuses))
