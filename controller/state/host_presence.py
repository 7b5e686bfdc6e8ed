"""The presence of a host: a record of the controller to which it is connected, with the host's report."""

from dataclasses import dataclass

from controller.state import keys
from overlayd.model import ids
from overlayd.model.ids import HostId, NetworkName, Revision
from overlayd.wire.fields import Fields, Json


@dataclass(frozen=True, slots=True)
class HostProblem:
    """An object that a host cannot bring into force, the reason, and the affected network; None: any network."""

    object: str
    message: str
    network: NetworkName | None = None


@dataclass(frozen=True, slots=True)
class HostPresence:
    """A host's open feed. `applied` is the revision that its kernel matches, None until it reported one.

    `instance` is the agent's, drawn at each of its starts.
    """

    host: HostId
    controller: str
    instance: str
    applied: Revision | None = None
    problems: tuple[HostProblem, ...] = ()

    @property
    def key(self) -> str:
        """Its key in the store."""
        return keys.presence(self.host, self.controller)


def encode(presence: HostPresence) -> bytes:
    """Return the stored form of a presence."""
    problems: list[Json] = [
        {"object": problem.object, "message": problem.message, "network": problem.network}
        for problem in presence.problems
    ]
    return keys.encode(
        {
            "host": presence.host,
            "controller": presence.controller,
            "instance": presence.instance,
            "applied": presence.applied,
            "problems": problems,
        }
    )


def decode(value: bytes) -> HostPresence:
    """Read the stored form of a presence."""
    fields = keys.decode(value)
    return HostPresence(
        host=ids.host_id(fields.text("host"), "host"),
        controller=fields.text("controller"),
        instance=fields.text("instance"),
        applied=Revision(fields.number("applied")) if fields.has("applied") else None,
        problems=tuple(_problem(problem) for problem in fields.objects("problems")),
    )


def _problem(fields: Fields) -> HostProblem:
    network = ids.network_name(fields.text("network"), "network") if fields.has("network") else None
    return HostProblem(fields.text("object"), fields.text("message"), network)
