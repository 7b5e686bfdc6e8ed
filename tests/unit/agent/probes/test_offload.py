"""Which hosts a host probes, and on which way; and the probes themselves, sent to this machine."""

from dataclasses import replace
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from overlayd.agent.probes import remote_kernel
from overlayd.agent.probes.offload import Targets
from overlayd.agent.probes.remote_kernel import ProbeRoute
from overlayd.agent.reconcile.checksums import Checksums
from overlayd.dataplane.desired.resolve import Desired
from overlayd.model.network import Uplink
from tests.support.controllers import clusters

BLUE = replace(clusters.network("blue", cidr="10.32.0.0/16"), uplink=Uplink.HOST)
RED = replace(clusters.network("red", cidr="10.33.0.0/16"), uplink=Uplink.HOST)
HOSTS = [clusters.host(number) for number in (1, 2, 3)]
BLOCKS = [clusters.block(number, f"10.32.{number}.0/24") for number in (1, 2, 3)]
LOOPBACKS = pytest.mark.parametrize("address", ["127.0.0.1", "::1"])


def found(*records: object, **site: object) -> list[tuple[str, str, str]]:
    known = clusters.cluster([*records], revision=1)  # type: ignore[list-item]
    here = replace(clusters.site(), **site)  # type: ignore[arg-type]
    targets = Targets()
    targets.update(known, here, Desired().of(known, here, []).choice.kinds)
    return [(target.name, str(target.way.source), str(target.way.target)) for target in targets.values.values()]


def test_each_host_of_a_network_is_probed_from_our_own_address_there_to_its_own() -> None:
    assert found(BLUE, *HOSTS, *BLOCKS) == [
        (HOSTS[1].name, "10.32.1.0", "10.32.2.0"),
        (HOSTS[2].name, "10.32.1.0", "10.32.3.0"),
    ]


def test_a_host_is_probed_on_one_way_however_many_networks_and_blocks_it_shares() -> None:
    more = [
        clusters.block(2, "10.32.9.0/24"),
        clusters.block(1, "10.33.1.0/24", "red"),
        clusters.block(2, "10.33.2.0/24", "red"),
    ]
    assert found(BLUE, RED, *HOSTS, *BLOCKS, *more) == found(BLUE, *HOSTS, *BLOCKS)


@pytest.mark.parametrize("kind", [Uplink.ISOLATED, Uplink.NONE])
def test_where_the_host_is_no_member_of_the_network_there_is_no_way(kind: Uplink) -> None:
    assert found(replace(BLUE, uplink=kind), *HOSTS, *BLOCKS) == []


def test_a_network_in_which_this_host_takes_no_part_is_none_of_its_business() -> None:
    assert found(BLUE, *HOSTS, *BLOCKS[1:]) == []


def test_a_host_whose_underlay_is_of_the_other_family_is_out_of_reach() -> None:
    other = replace(HOSTS[1], address=IPv6Address("2001:db8::2"))
    assert [name for name, *_ in found(BLUE, HOSTS[0], other, HOSTS[2], *BLOCKS)] == [HOSTS[2].name]


@LOOPBACKS
@pytest.mark.anyio
@pytest.mark.usefixtures("root")
async def test_a_kernel_echoes_and_refuses_by_itself(address: str) -> None:
    way = ProbeRoute(ip_address(address), ip_address(address))
    assert await remote_kernel.echoes(way)
    assert await remote_kernel.refuses(way)


def test_how_checksums_are_made_is_remembered_until_the_boot(tmp_path: Path) -> None:
    path = tmp_path / "software-checksums"
    for wanted in (True, False):
        Checksums(path).let_kernel(make_them=wanted)
        assert Checksums(path).in_software is wanted
