"""The control socket: what the commands of `overlayd` ask the agent of their own host."""

import json
from collections.abc import Awaitable, Callable, Mapping

from overlayd.agent.controllers.feed import ClusterFeed
from overlayd.agent.controllers.problem import Problem
from overlayd.agent.holdings.publication import Publication
from overlayd.agent.reconcile.reconciler import Reconciler
from overlayd.dataplane.plan import Plan
from overlayd.model.errors import InvalidValue, OverlayError
from overlayd.model.ids import quoted
from overlayd.wire.fields import Fields, Json

Command = Callable[[Fields], Awaitable[dict[str, Json]]]
"""A command: gets the request, returns the answer, and raises `OverlayError` when it refuses."""


class Control:
    """Answers a request such as ``{"command": "plan"}`` with one JSON object.

    `commands` are those of other rooms, by name, beside `plan` and `status`.
    """

    def __init__(
        self, reconciler: Reconciler, feed: ClusterFeed, publication: Publication, commands: Mapping[str, Command]
    ) -> None:
        self._reconciler = reconciler
        self._feed = feed
        self._publication = publication
        self._commands = commands

    async def answer(self, request: bytes) -> bytes:
        """Return the answer, or ``{"error": …}`` that names the field at fault; ``code`` is that of our own errors."""
        try:
            body = await self._execute(Fields(json.loads(request)))
        except (ValueError, RecursionError) as error:
            body = {"error": f"the request is not JSON: {error}", "code": InvalidValue.code}
        except OSError as error:
            body = {"error": f"a file of the agent cannot be read or written: {error}"}
        except OverlayError as error:
            body = {"error": str(error), "code": error.code}
        return json.dumps(body).encode() + b"\n"

    def summary(self) -> str:
        """Return a short summary of this agent's state."""
        parts = [
            "in sync with a controller" if self._is_in_sync() else "no controller answers: works on what it knows",
            f"networks in force: {len(self._reconciler.networks)}",
        ]
        if problems := self._problems():
            parts.append(f"problems: {len(problems)}, see overlayd status")
        return "; ".join(parts)

    async def _execute(self, fields: Fields) -> dict[str, Json]:
        match fields.text("command"):
            case "plan":
                return shown(await self._reconciler.plan())
            case "status":
                return self._status()
            case other if command := self._commands.get(other):
                return await command(fields)
            case other:
                known = ", ".join(("plan", "status", *self._commands))
                raise InvalidValue(f"{quoted(other)} is not one of {known}", field="command")

    def _status(self) -> dict[str, Json]:
        return {
            "in_sync": self._is_in_sync(),
            "controller": self._feed.controller,
            "revision": self._feed.cluster.revision,
            "applied": self._reconciler.status.applied,
            "address": str(self._feed.announced) if self._feed.announced else None,
            "mtu": self._reconciler.mtu,
            "networks": list(self._reconciler.networks),
            "probed_hosts": self._reconciler.checksums.probed,
            "software_checksums": self._reconciler.checksums.in_software,
            "problems": [{"object": problem.object, "message": problem.message} for problem in self._problems()],
        }

    def _is_in_sync(self) -> bool:
        return self._feed.in_sync and self._feed.problem is None

    def _problems(self) -> list[Problem]:
        problems = list(self._reconciler.status.problems)
        if self._feed.problem:
            problems.append(Problem(f"controller {self._feed.controller}", str(self._feed.problem)))
        problems += self._feed.claims.problems
        if self._publication.problem:
            problems.append(Problem("endpoints of this host, as published", str(self._publication.problem)))
        return problems


def shown(plan: Plan) -> dict[str, Json]:
    """Return a plan as JSON."""
    return {"operations": [{"verb": type(op).__name__.lower(), "command": str(op)} for op in plan]}
