"""The endpoints that a controller refuses: their form, and what a host reads of them."""

import pytest

from overlayd.model.errors import AlreadyExists, InvalidValue, OverlayError
from overlayd.model.ids import HostId
from overlayd.wire import refusals
from overlayd.wire.fields import Fields, Json
from tests.support.controllers import clusters

ENDPOINT = clusters.endpoint(7, "web", "10.32.0.5").key
FORM: dict[str, Json] = {
    "network": "blue",
    "container_id": "web",
    "interface": "eth0",
    "code": "already-exists",
    "detail": "10.32.0.5 is that of another endpoint",
    "field": "addresses[0]",
}


def read(**changes: Json) -> OverlayError:
    (error,) = refusals.decode(Fields({"refused": [{**FORM, **changes}]}), HostId("host-7")).values()
    return error


def test_a_refusal_names_the_endpoint_and_the_reason() -> None:
    error = AlreadyExists("10.32.0.5 is that of another endpoint", field="addresses[0]")
    assert refusals.encode(ENDPOINT, error) == FORM


def test_a_host_reads_the_refusals_of_its_own_endpoints() -> None:
    found = refusals.decode(Fields({"refused": [FORM]}), HostId("host-7"))
    assert list(found) == [ENDPOINT]
    assert isinstance(found[ENDPOINT], AlreadyExists)
    assert (found[ENDPOINT].detail, found[ENDPOINT].field) == (FORM["detail"], FORM["field"])


def test_an_earlier_release_refuses_no_single_endpoint() -> None:
    assert refusals.decode(Fields({}), HostId("host-7")) == {}


def test_a_reason_of_a_newer_controller_is_an_invalid_value() -> None:
    assert type(read(code="out-of-season")) is InvalidValue


def test_a_refusal_need_not_name_a_field() -> None:
    assert read(field=None).field is None


@pytest.mark.parametrize("field", ["network", "container_id", "interface", "code", "detail", "field"])
@pytest.mark.parametrize("value", [5, "../x"])
def test_a_malformed_refusal_is_named_with_its_path(field: str, value: Json) -> None:
    if value == "../x" and field in {"code", "detail", "field"}:
        return  # any text
    with pytest.raises(InvalidValue) as caught:
        read(**{field: value})
    assert caught.value.field == f"refused[0].{field}"
