"""From rates to token buckets."""

import pytest

from overlayd.dataplane.desired.shaping import limits
from overlayd.dataplane.items import BUCKET_TICK, NamespaceRef
from overlayd.model.bandwidth import UNLIMITED, Bandwidth, Rate
from overlayd.model.ids import InterfaceName

NEAR = NamespaceRef("/run/netns/ov-blue"), InterfaceName("ve1")
FAR = NamespaceRef("/run/netns/web"), InterfaceName("eth0")


def test_each_direction_is_limited_at_the_end_by_which_it_leaves() -> None:
    ingress, egress = Rate(8_000_000, 1_000_000), Rate(16_000_000, 1_000_000)
    (one,) = limits(Bandwidth(ingress=ingress), NEAR, FAR, 1450)
    (other,) = limits(Bandwidth(egress=egress), NEAR, FAR, 1450)
    assert ((one.ns, one.dev), one.rate) == (NEAR, 1_000_000)
    assert ((other.ns, other.dev), other.rate) == (FAR, 2_000_000)
    assert list(limits(UNLIMITED, NEAR, FAR, 1450)) == []


@pytest.mark.parametrize("rate", [1_000, 8_000_000, 10**10, 10**12])
@pytest.mark.parametrize("burst", [0, 1_000, 1 << 30])
@pytest.mark.parametrize("mtu", [1280, 8950])
def test_a_frame_fits_into_every_bucket_and_its_numbers_into_the_kernels(rate: int, burst: int, mtu: int) -> None:
    (found,) = limits(Bandwidth(Rate(rate, burst)), NEAR, FAR, mtu)
    bytes_at_once = found.depth * BUCKET_TICK * found.rate // 1_000_000_000
    assert bytes_at_once >= mtu + 14
    assert max(found.depth, found.limit) < 1 << 32
    assert found.limit > mtu


@pytest.mark.parametrize(
    ("rate", "burst", "expected"),
    [
        (8_123_456, 1_000_007, (1_015_432, 1_923_443, 150_385)),
        (8_123_456, 0, (1_015_432, 156_246, 35_539)),
        (8_000, 0, (1_000, 45_750_000, 2_953)),
    ],
    ids=["burst", "ten milliseconds of the rate", "two frames"],
)
def test_rate_depth_and_queue_are_whole_numbers(rate: int, burst: int, expected: tuple[int, int, int]) -> None:
    (found,) = limits(Bandwidth(Rate(rate, burst)), NEAR, FAR, 1450)
    assert (found.rate, found.depth, found.limit) == expected
