"""The table of roles: what stands in the design, word by word."""

import pytest

from controller.identity.roles import ALLOWED, Permission, Role, may

HOST_PERMISSIONS = {
    Permission.READ_NETWORKS,
    Permission.ACT_AS_HOST,
    Permission.CLAIM_RESERVATIONS,
    Permission.IDENTIFY,
}


def permissions(role: Role) -> set[Permission]:
    return {permission for permission in Permission if may(role, permission)}


def test_every_permission_has_its_roles() -> None:
    assert set(ALLOWED) == set(Permission)


def test_an_admin_may_do_everything() -> None:
    assert permissions(Role.ADMIN) == set(Permission)


def test_an_operator_may_not_make_tokens_nor_forget_hosts_nor_be_one() -> None:
    missing = {Permission.ADMINISTER_TOKENS, Permission.FORGET_HOSTS, Permission.ACT_AS_HOST}
    assert permissions(Role.OPERATOR) == set(Permission) - missing


def test_a_viewer_reads() -> None:
    assert permissions(Role.VIEWER) == {Permission.READ, Permission.READ_NETWORKS, Permission.IDENTIFY}


def test_a_host_reads_networks_and_does_its_own_things() -> None:
    assert permissions(Role.HOST) == HOST_PERMISSIONS


@pytest.mark.parametrize("permission", Permission)
def test_a_permission_reads_like_the_end_of_a_sentence(permission: Permission) -> None:
    assert permission.value[0].islower()
    assert not permission.value.endswith(".")
