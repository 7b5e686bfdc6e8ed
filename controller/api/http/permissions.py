"""The permission that each route needs. An application with a route that is missing here cannot be created."""

from dataclasses import dataclass
from enum import StrEnum

from controller.identity.roles import Permission


class HostPlace(StrEnum):
    """Where a request names its host; a caller that is a host must name itself."""

    PATH = "the path's id"
    QUERY = "the query's host"
    BODY = "the body's host"
    """The route itself asks `Caller.must_be`: the body is not read before."""


@dataclass(frozen=True, slots=True)
class Need:
    """The permission that a caller needs, None for a route that is open to everybody."""

    permission: Permission | None
    host: HostPlace | None = None


OPEN = Need(None)
_READ = Need(Permission.READ)
_READ_NETWORKS = Need(Permission.READ_NETWORKS)
_WRITE_NETWORKS = Need(Permission.WRITE_NETWORKS)
_HOST_IN_PATH = Need(Permission.ACT_AS_HOST, HostPlace.PATH)
_WRITE_RESERVATIONS = Need(Permission.WRITE_RESERVATIONS)
_CLAIM = Need(Permission.CLAIM_RESERVATIONS, HostPlace.BODY)
_TOKENS = Need(Permission.ADMINISTER_TOKENS)

NEEDS: dict[str, Need] = {
    # No secrets, and asked for before anybody could have a credential.
    "GET /docs": OPEN,
    "GET /healthz": OPEN,
    "GET /openapi.json": OPEN,
    "GET /readyz": OPEN,
    "GET /v1/ca": OPEN,
    "POST /v1/join": OPEN,
    # Who asks.
    "GET /v1/whoami": Need(Permission.IDENTIFY),
    "GET /v1/tokens": _TOKENS,
    "POST /v1/tokens": _TOKENS,
    "GET /v1/tokens/{id}": _TOKENS,
    "DELETE /v1/tokens/{id}": _TOKENS,
    # Networks.
    "GET /v1/networks": _READ_NETWORKS,
    "POST /v1/networks": _WRITE_NETWORKS,
    "GET /v1/networks/{name}": _READ_NETWORKS,
    "PUT /v1/networks/{name}": _WRITE_NETWORKS,
    "PATCH /v1/networks/{name}": _WRITE_NETWORKS,
    "DELETE /v1/networks/{name}": _WRITE_NETWORKS,
    "GET /v1/networks/{name}/capacity": _READ_NETWORKS,
    "GET /v1/capacity": _READ,
    # Reservations. Hosts claim them for their own containers.
    "GET /v1/networks/{name}/reservations": _READ_NETWORKS,
    "POST /v1/networks/{name}/reservations": _WRITE_RESERVATIONS,
    "GET /v1/networks/{name}/reservations/{reservation}": _READ_NETWORKS,
    "PATCH /v1/networks/{name}/reservations/{reservation}": _WRITE_RESERVATIONS,
    "DELETE /v1/networks/{name}/reservations/{reservation}": _WRITE_RESERVATIONS,
    "POST /v1/networks/{name}/reservations/{reservation}/claim": _CLAIM,
    "POST /v1/networks/{name}/reservations/{reservation}/release": _CLAIM,
    # What is done to hosts.
    "PATCH /v1/hosts/{id}": Need(Permission.DRAIN_HOSTS),
    "DELETE /v1/hosts/{id}": Need(Permission.FORGET_HOSTS),
    # What hosts do.
    "PUT /v1/hosts/{id}": _HOST_IN_PATH,
    "POST /v1/hosts/{id}/report": _HOST_IN_PATH,
    "PUT /v1/hosts/{id}/statement": _HOST_IN_PATH,
    "PUT /v1/hosts/{id}/networks/{name}": _HOST_IN_PATH,
    "POST /v1/hosts/{id}/endpoints": _HOST_IN_PATH,
    "PUT /v1/hosts/{id}/endpoints": _HOST_IN_PATH,
    "POST /v1/hosts/{id}/endpoint-sets": _HOST_IN_PATH,
    "PUT /v1/hosts/{id}/endpoint-sets/{set}/parts/{part}": _HOST_IN_PATH,
    "POST /v1/hosts/{id}/endpoint-sets/{set}/publish": _HOST_IN_PATH,
    "GET /v1/feed": Need(Permission.ACT_AS_HOST, HostPlace.QUERY),
    "POST /v1/networks/{name}/blocks": Need(Permission.ACT_AS_HOST, HostPlace.BODY),
    "DELETE /v1/networks/{name}/blocks/{cidr:path}": Need(Permission.ACT_AS_HOST, HostPlace.QUERY),
    # What people look at.
    "GET /v1/hosts": _READ,
    "GET /v1/hosts/{id}": _READ,
    "GET /v1/blocks": _READ,
    "GET /v1/endpoints": _READ,
    "GET /v1/convergence": _READ,
    "GET /metrics": _READ,
    "GET /v1/watch": _READ,
    "GET /v1/history": _READ,
    "GET /v1/history/at": _READ,
}
"""By method and path, as the routes have them."""


def need(method: str, path: str) -> Need:
    """Return the permission that a route needs; raise `LookupError` for a route that is not in the table."""
    found = NEEDS.get(f"{method} {path}")
    if found is None:
        raise LookupError(f"{method} {path} is not in the table of controller/api/http/permissions.py")
    return found


def open_paths() -> frozenset[str]:
    """Return the paths that are served without a credential."""
    return frozenset(route.partition(" ")[2] for route, need in NEEDS.items() if need.permission is None)
