"""The endpoints that a controller refuses to publish, in its answer to the host that sent them."""

from overlayd.model import ids
from overlayd.model.endpoint import EndpointKey
from overlayd.model.errors import ERRORS_BY_CODE, InvalidValue, OverlayError
from overlayd.model.ids import HostId
from overlayd.wire.fields import Fields, Json


def encode(endpoint: EndpointKey, error: OverlayError) -> dict[str, Json]:
    """Return the JSON object of a refused endpoint with the reason. The host is not part of it."""
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
    """Read the endpoints of a host that an answer refuses. Controllers of earlier releases never refuse single ones.

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
