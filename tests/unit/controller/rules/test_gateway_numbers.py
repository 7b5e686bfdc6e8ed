from collections import Counter
from dataclasses import replace

from controller.rules.gateway_numbers import gateway_number
from overlayd.model.ids import NetworkName, Vni
from overlayd.model.network import GATEWAY_NUMBERS, Network
from tests.support.controllers import clusters


def made(networks: list[Network], vni: int) -> Network:
    number = gateway_number(networks, Vni(vni))
    return replace(clusters.network(), name=NetworkName(f"n{vni}"), vni=Vni(vni), gateway_number=number)


def test_the_first_networks_have_numbers_of_their_own_and_later_ones_share_them_evenly() -> None:
    networks: list[Network] = []
    for vni in range(1, 2 * len(GATEWAY_NUMBERS) + 1):
        networks.append(made(networks, vni))
        if vni == len(GATEWAY_NUMBERS):
            assert Counter(each.gateway_number for each in networks) == dict.fromkeys(GATEWAY_NUMBERS, 1)
    assert Counter(each.gateway_number for each in networks) == dict.fromkeys(GATEWAY_NUMBERS, 2)


def test_networks_of_before_share_the_first_number_and_new_ones_leave_it_to_them() -> None:
    old = [replace(clusters.network(), name=NetworkName(f"old{vni}"), vni=Vni(vni)) for vni in (1, 2, 3)]
    assert {each.gateway_number for each in old} == {1}
    assert [made(old, vni).gateway_number for vni in (254, 4)] == [3, 5]


def test_two_networks_that_are_made_at_the_same_moment_differ() -> None:
    assert made([], 7).gateway_number != made([], 8).gateway_number
