"""Roles and their permissions: the table by which the API decides, and which docs/security.md shows."""

from enum import StrEnum


class Role(StrEnum):
    """The role in which a caller acts."""

    ADMIN = "admin"
    OPERATOR = "operator"
    VIEWER = "viewer"
    HOST = "host"


class Permission(StrEnum):
    """A permission; its value describes it in the text of a refusal."""

    READ = "read the overlay's state"
    READ_NETWORKS = "read networks"
    WRITE_NETWORKS = "change networks"
    WRITE_RESERVATIONS = "change reservations"
    CLAIM_RESERVATIONS = "claim reservations for a host"
    ACT_AS_HOST = "act as a host"
    DRAIN_HOSTS = "drain hosts"
    FORGET_HOSTS = "forget hosts"
    ADMINISTER_TOKENS = "administer tokens"
    IDENTIFY = "ask who it is"


_EVERYBODY = frozenset(Role)
_PEOPLE = _EVERYBODY - {Role.HOST}
_WRITERS = frozenset({Role.ADMIN, Role.OPERATOR})
_ADMIN = frozenset({Role.ADMIN})

ALLOWED: dict[Permission, frozenset[Role]] = {
    Permission.READ: _PEOPLE,
    Permission.READ_NETWORKS: _EVERYBODY,
    Permission.WRITE_NETWORKS: _WRITERS,
    Permission.WRITE_RESERVATIONS: _WRITERS,
    Permission.CLAIM_RESERVATIONS: _WRITERS | {Role.HOST},
    Permission.ACT_AS_HOST: _ADMIN | {Role.HOST},
    Permission.DRAIN_HOSTS: _WRITERS,
    Permission.FORGET_HOSTS: _ADMIN,
    Permission.ADMINISTER_TOKENS: _ADMIN,
    Permission.IDENTIFY: _EVERYBODY,
}
"""A host has its permissions for itself only: where a request names a host, it must be the caller's own."""


def may(role: Role, permission: Permission) -> bool:
    """Return whether a role has a permission."""
    return role in ALLOWED[permission]
