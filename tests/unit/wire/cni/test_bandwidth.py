"""Limits as runtimes ask for them, and as records keep them."""

import pytest

from overlayd.model.bandwidth import UNLIMITED, Bandwidth, Rate
from overlayd.model.errors import InvalidValue
from overlayd.wire.cni import bandwidth
from overlayd.wire.fields import Fields, Json


def decode(**given: Json) -> Bandwidth:
    return bandwidth.decode(Fields({"bandwidth": given}, "runtimeConfig"), "bandwidth")


def test_each_direction_is_read_by_itself() -> None:
    assert decode(ingressRate=1_000_000, ingressBurst=80_000) == Bandwidth(Rate(1_000_000, 80_000))
    assert decode(egressRate=1_000_000) == Bandwidth(None, Rate(1_000_000, 0))
    assert decode(ingressRate=0, ingressBurst=0) == decode() == bandwidth.decode(Fields({}), "bandwidth") == UNLIMITED


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"ingressRate": 999}, "ingressRate"),
        ({"egressRate": -1}, "egressRate"),
        ({"egressRate": 10**12 + 1}, "egressRate"),
        ({"ingressRate": 1000, "ingressBurst": -1}, "ingressBurst"),
        ({"ingressBurst": 1000}, "ingressRate"),
        ({"ingressRate": "fast"}, "ingressRate"),
    ],
)
def test_what_is_no_rate_is_refused(given: dict[str, Json], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        decode(**given)
    assert refused.value.field == f"runtimeConfig.bandwidth.{field}"


def test_the_record_has_the_form_of_the_request() -> None:
    for known in (UNLIMITED, Bandwidth(Rate(1_000_000, 5)), Bandwidth(Rate(1_000, 0), Rate(10**12, 1 << 34))):
        assert bandwidth.decode(Fields({"b": bandwidth.encode(known)}), "b") == known
