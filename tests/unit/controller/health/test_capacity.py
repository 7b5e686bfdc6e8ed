"""How near the end is: levels, and what the log says of them."""

from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from controller.health import capacity
from controller.health.alarms import AlarmLog
from controller.health.capacity import CapacitySupply, Level
from controller.journal.actor import BY_CONTROLLER
from overlayd.model.address import IpNetwork
from overlayd.model.ids import ReservationName
from overlayd.model.network import Pool, Topology
from tests.support.controllers.overlays import BLUE, H1, controllers, make_host, make_network, pool

pytestmark = pytest.mark.anyio

V6 = Pool(IPv6Network("fd00:1::/48"), 112)


@pytest.mark.parametrize(
    ("total", "taken", "level"),
    [
        (100, 79, None),
        (100, 80, Level.WARNING),
        (100, 94, Level.WARNING),
        (100, 95, Level.CRITICAL),
        (1, 0, None),
        (1, 1, Level.CRITICAL),
        (0, 0, Level.CRITICAL),
        (2**109, 2**109 - 1, Level.CRITICAL),
        (2**109, 2**108, None),
    ],
)
def test_levels(total: int, taken: int, level: Level | None) -> None:
    assert CapacitySupply(total, taken).level is level


async def test_what_becomes_of_blocks_is_counted(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        pools = (pool("10.32.0.0/24", 28), pool("10.40.0.0/28", 28), V6)
        await overlay.networks.create(
            BY_CONTROLLER, BLUE, pools, Topology.ROUTED, None, (IPv4Network("10.32.0.64/26"),)
        )
        await make_host(overlay, 1)
        held = [(await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])).result.cidr]
        held.append((await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, held)).result.cidr)
        await overlay.blocks.release(BY_CONTROLLER, BLUE, held[0], H1)
        await overlay.reservations.create(BY_CONTROLLER, BLUE, ReservationName("web"))
        found = capacity.of_network(overlay.mirror, overlay.networks.get(BLUE))
        counts = [(p.total, p.used, p.quarantined, p.withheld, p.reserved, p.free) for p in found.pools]
        assert counts == [(16, 1, 1, 1, 4, 9), (1, 0, 0, 0, 0, 1), (2**64, 0, 0, 1, 0, 2**64 - 1)]
        assert found.families == ((4, CapacitySupply(13, 3)), (6, CapacitySupply(2**64, 1)))


async def test_a_level_is_said_once_and_again_when_it_is_worse(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay, of=pool("10.32.0.0/25", 29))
        await make_host(overlay, 1)
        log, held = AlarmLog(overlay.mirror), list[IpNetwork]()
        said: list[tuple[int, str, object]] = []
        for number in range(1, 17):
            held.append((await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, held)).result.cidr)
            with capture_logs() as lines:
                log.say()
            said += [(number, line["event"], line["alarm"]) for line in lines]
        assert said == [(13, "nearly exhausted", "warning"), (16, "nearly exhausted", "critical")]
        more = pool("10.40.0.0/24", 29)
        await overlay.networks.update(
            BY_CONTROLLER, BLUE, lambda network: replace(network, pools=(*network.pools, more))
        )
        with capture_logs() as lines:
            log.say()
            log.say()
        assert [(line["event"], line["subject"]) for line in lines] == [
            ("no longer nearly exhausted", "IPv4 blocks of network blue")
        ]


async def test_an_alarm_names_the_network_and_what_to_do(tmp_path: Path) -> None:
    async with controllers(tmp_path, 1) as (_, [overlay]):
        await make_network(overlay, of=pool("10.32.0.0/29", 29))
        await make_host(overlay, 1)
        await overlay.blocks.acquire(BY_CONTROLLER, BLUE, H1, [])
        [alarm] = capacity.alarms(overlay.mirror)
        assert (alarm.level, alarm.network) == (Level.CRITICAL, BLUE)
        assert "overlayctl network add-range blue CIDR" in alarm.advice
