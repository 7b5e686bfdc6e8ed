"""Which addresses of an endpoint belong to a reservation, and which of them it may use."""

from dataclasses import replace
from ipaddress import ip_address

from overlayd.model.ids import NetworkName, ReservationName, Revision, Vni
from overlayd.model.lineage import Statement
from overlayd.model.reservation import Holder, lost_addresses, shared_addresses
from tests.support.controllers import clusters

WEB = clusters.endpoint(1, "web", "10.32.0.5,fd00::5")
OTHER = clusters.endpoint(2, "other", "10.32.1.5")


def test_the_holder_is_host_container_and_interface() -> None:
    holder = Holder.of(WEB.key)
    assert (holder.host, holder.container_id, holder.interface) == (WEB.host, WEB.container_id, WEB.interface)


def test_an_address_is_lost_to_a_reservation_with_another_holder_or_none() -> None:
    address = ip_address("10.32.0.5")
    assert lost_addresses(WEB, {}) == frozenset()
    assert lost_addresses(WEB, {address: clusters.reservation("web", "10.32.0.5", WEB)}) == frozenset()
    assert lost_addresses(WEB, {address: clusters.reservation("web", "10.32.0.5", OTHER)}) == {address}
    assert lost_addresses(WEB, {address: clusters.reservation("web", "10.32.0.5")}) == {address}


def test_the_addresses_of_shared_reservations_are_those_that_an_endpoint_names() -> None:
    vip = replace(clusters.reservation("vip", "10.32.0.100,fd00::100"), shared=True)
    own = clusters.reservation("own", "10.32.0.101")
    unnamed = replace(clusters.reservation("unnamed", "10.32.0.102"), shared=True)
    known = {each.key: each for each in (vip, own, unnamed)}
    names = tuple(ReservationName(name) for name in ("vip", "own", "missing"))
    found = shared_addresses(replace(WEB, shares=names), known)
    assert found == {ip_address("10.32.0.100"): vip, ip_address("fd00::100"): vip}
    assert shared_addresses(WEB, known) == {}


def test_a_statement_knows_the_vni_of_a_network() -> None:
    blue, red = NetworkName("blue"), NetworkName("red")
    said = Statement(None, Revision(7), vnis=((blue, Vni(5)), (red, Vni(6))))
    assert [said.vni(name) for name in (blue, red, NetworkName("green"))] == [5, 6, None]
