"""A lineage is random, and a restored store has the same cluster with another course."""

import pytest

from overlayd.model.errors import InvalidValue
from overlayd.model.lineage import Lineage, parse_lineage

TEXT = "0123456789abcdef.fedcba9876543210"


def test_a_lineage_is_read_from_its_text() -> None:
    assert parse_lineage(TEXT) == Lineage("0123456789abcdef", "fedcba9876543210")
    assert str(parse_lineage(TEXT)) == TEXT


@pytest.mark.parametrize("text", ["", TEXT[:-1], f"{TEXT}0", TEXT.upper(), TEXT.replace(".", "-"), f"{TEXT}\n"])
def test_another_text_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="is no lineage") as refused:
        parse_lineage(text)
    assert refused.value.field == "lineage"
    with pytest.raises(InvalidValue) as named:
        parse_lineage(text, "knew")
    assert named.value.field == "knew"


def test_a_new_lineage_is_unlike_every_other() -> None:
    one, other = Lineage.founded(), Lineage.founded()
    assert len({one.cluster, one.course, other.cluster, other.course}) == 4
    assert parse_lineage(str(one)) == one


def test_a_restored_store_has_the_same_cluster_and_another_course() -> None:
    one = Lineage.founded()
    renewed = one.renewed()
    assert renewed.cluster == one.cluster
    assert renewed.course not in {one.course, one.cluster}
    assert parse_lineage(str(renewed)) == renewed
