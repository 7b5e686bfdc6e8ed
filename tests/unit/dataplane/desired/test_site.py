"""The site is divided: each network has the part that concerns it, and no other fact of the host changes that."""

from dataclasses import replace
from ipaddress import ip_address, ip_network

import pytest

from overlayd.dataplane.desired.site import Site
from overlayd.ipam.lifelines import Lifeline
from overlayd.model.bandwidth import Bandwidth, Rate
from overlayd.model.endpoint import Endpoint
from overlayd.model.ids import InterfaceName, NetworkName
from overlayd.model.published_port import PortMapping, Published, TransportProtocol
from tests.support.controllers import clusters

BLUE, GREEN, RED = (NetworkName(name) for name in clusters.NETWORK_NAMES)
WEB = clusters.endpoint(1, "web", "10.32.0.5")
OTHER = clusters.endpoint(1, "other", "10.64.0.5", "green")
LIMITS = Bandwidth(Rate(8_000_000, 0))


def with_facts(*endpoints: Endpoint) -> Site:
    """Return the site on which everything that may be a fact about an endpoint is one about each of these."""
    keys = frozenset(each.key for each in endpoints)
    mapping = PortMapping(TransportProtocol.TCP, 8080, 80)
    return replace(
        clusters.site(),
        published=tuple(Published(each.network, each.addresses, mapping) for each in endpoints),
        bandwidths=tuple((each, LIMITS) for each in endpoints),
        unguarded=keys,
        out_of_reach=keys,
        handed_over=keys,
    )


def test_each_network_has_the_facts_about_its_own_endpoints() -> None:
    divided = with_facts(WEB, OTHER).divided([BLUE, GREEN, RED])
    assert divided == {BLUE: with_facts(WEB), GREEN: with_facts(OTHER), RED: clusters.site()}


FACTS = with_facts(WEB)


@pytest.mark.parametrize(
    "site",
    [
        replace(clusters.site(), published=FACTS.published),
        replace(clusters.site(), bandwidths=FACTS.bandwidths),
        replace(clusters.site(), unguarded=FACTS.unguarded),
        replace(clusters.site(), out_of_reach=FACTS.out_of_reach),
        replace(clusters.site(), handed_over=FACTS.handed_over),
    ],
    ids=["published", "bandwidths", "unguarded", "out of reach", "handed over"],
)
def test_one_fact_about_an_endpoint_is_enough(site: Site) -> None:
    assert site.divided([BLUE, GREEN]) == {BLUE: site, GREEN: clusters.site()}


@pytest.mark.parametrize(
    "site",
    [
        replace(clusters.site(), foreign_routes=frozenset({ip_network("198.51.100.0/24")})),
        replace(clusters.site(), lifelines=frozenset({Lifeline(ip_address("198.51.100.1"), "a gateway")})),
        replace(clusters.site(), forgotten=(clusters.network("red"),)),
        replace(clusters.site(), ways_out=frozenset({InterfaceName("eth0")})),
        replace(clusters.site(), kept_uplinks=frozenset({InterfaceName("ov7")})),
    ],
    ids=["foreign routes", "lifelines", "forgotten networks", "ways out", "kept uplinks"],
)
def test_what_the_host_has_for_all_networks_is_no_part_of_one(site: Site) -> None:
    assert site.divided([BLUE]) == {BLUE: clusters.site()}
