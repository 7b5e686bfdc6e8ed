"""What a network is to be that Docker creates and the controllers do not have."""

from ipaddress import ip_network

import pytest

from overlayd.agent.docker.network_wishes import wanted_network
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import NetworkName
from overlayd.model.network import Topology, WantedNetwork
from overlayd.wire.fields import Fields, Json

NAME = NetworkName("blue")
POOL: dict[str, Json] = {"AddressSpace": "overlayd", "Pool": "10.32.0.0/16"}
POOL_6: dict[str, Json] = {"AddressSpace": "overlayd", "Pool": "fd00:32::/48"}


def test_it_is_what_the_options_say_and_otherwise_open() -> None:
    assert wanted_network(NAME, Fields({}), [Fields(POOL)], is_internal=False) == WantedNetwork(
        NAME, (ip_network("10.32.0.0/16"),)
    )
    options = Fields({"overlayd.vni": "77", "overlayd.topology": "switched"})
    pools = [Fields(POOL | {"Gateway": "10.32.0.1/16"}), Fields(POOL_6 | {"Gateway": "fd00:32::1/48"})]
    wanted = wanted_network(NAME, options, pools, is_internal=True)
    ranges = (ip_network("10.32.0.0/16"), ip_network("fd00:32::/48"))
    assert wanted == WantedNetwork(NAME, ranges, Topology.SWITCHED, wanted.vni, egress=False)
    assert wanted.vni == 77


def test_the_gateway_that_docker_20_makes_up_is_none_that_a_person_said() -> None:
    wanted_network(NAME, Fields({}), [Fields(POOL | {"Gateway": "10.32.0.0/32"})], is_internal=False)


@pytest.mark.parametrize(
    ("options", "pool", "reason"),
    [
        ({"overlayd.topology": "flat"}, {}, "a network is routed or switched, not 'flat'"),
        ({"overlayd.vni": "-1"}, {}, "no VNI"),
        ({"overlayd.vni": "9" * 5000}, {}, "no VNI"),
        ({"overlayd.vni": "99999999"}, {}, "is not in"),
        ({}, {"Pool": "240.0.7.1/32"}, "there is no network blue: say its IPv4 range by --subnet"),
        ({}, {"Pool": "fd6f:7665:726c:6179:2::7/128"}, "say its IPv6 range by --subnet"),
        ({}, {"Gateway": "10.32.0.1/16"}, "leave out --gateway"),
        ({"overlayd.topology": "switched"}, {"Gateway": "10.32.0.2/16"}, "leave out --gateway"),
    ],
)
def test_what_cannot_be_made_is_refused(options: dict[str, Json], pool: dict[str, Json], reason: str) -> None:
    with pytest.raises(InvalidValue, match=reason):
        wanted_network(NAME, Fields(options), [Fields(POOL | pool)], is_internal=False)
