"""Endpoints that the controllers refuse one by one, in their answer to a host that publishes them."""

from overlayd.model import ids
from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import ERRORS_BY_CODE, InvalidValue, OverlayError
from overlayd.model.ids import HostId
from overlayd.wire.fields import Fields, Json


def encode(endpoint: EndpointKey, error: OverlayError) -> dict[str, Json]:
    """Return the JSON object of an endpoint that is refused, and why; the host is the one that asked."""
    network, _, container_id, interface = endpoint
    return {
        "network": network,
        "container_id": container_id,
        "interface": interface,
        "code": error.code,
        "detail": error.detail,
        "field": error.field,
    }


def decode(answer: Fields, host: HostId) -> dict[EndpointKey, OverlayError]:
    """Read which endpoints of a host an answer refuses; a controller of an earlier release says nothing of that.

    Raises `InvalidValue`.
    """
    found: dict[EndpointKey, OverlayError] = {}
    for refused in answer.objects("refused") if answer.has("refused") else ():
        key = (
            ids.network_name(refused.text("network"), refused.at("network")),
            host,
            ids.container_id(refused.text("container_id"), refused.at("container_id")),
            ids.interface_name(refused.text("interface"), refused.at("interface")),
        )
        # A newer controller may have further reasons.
        kind = ERRORS_BY_CODE.get(refused.text("code"), InvalidValue)
        found[key] = kind(refused.text("detail"), field=refused.text("field") if refused.has("field") else None)
    return found
