"""Bandwidth limits as JSON, in the form of the CNI capability `bandwidth`, for requests and for our records."""

from overlayd.model.bandwidth import UNLIMITED, Bandwidth, Rate
from overlayd.model.errors import InvalidValue
from overlayd.wire.fields import Fields, Json


def decode(fields: Fields, name: str) -> Bandwidth:
    """Read limits. Rate and burst 0 mean no limit. Raises `InvalidValue`."""
    if not fields.has(name):
        return UNLIMITED
    given = fields.object(name)
    return Bandwidth(_rate(given, "ingress"), _rate(given, "egress"))


def encode(bandwidth: Bandwidth) -> dict[str, Json]:
    """Return the JSON object of limits."""
    found: dict[str, Json] = {}
    for direction, rate in (("ingress", bandwidth.ingress), ("egress", bandwidth.egress)):
        if rate:
            found |= {f"{direction}Rate": rate.rate, f"{direction}Burst": rate.burst}
    return found


def _rate(given: Fields, direction: str) -> Rate | None:
    rate, burst = (given.number(name) if given.has(name) else 0 for name in (f"{direction}Rate", f"{direction}Burst"))
    if not rate and not burst:
        return None
    try:
        return Rate(rate, burst)
    except InvalidValue as error:
        raise InvalidValue(error.detail, field=given.at(f"{direction}{error.field}")) from None
