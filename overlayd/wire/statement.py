"""A host's statement as JSON."""

from overlayd.model import ids
from overlayd.model.ids import Revision
from overlayd.model.lineage import Statement, parse_lineage
from overlayd.wire import records
from overlayd.wire.fields import Fields, Json


def encode(statement: Statement) -> dict[str, Json]:
    """Return the JSON object of a statement."""
    return {
        "knew": str(statement.knew) if statement.knew else None,
        "revision": statement.revision,
        "networks": [{"name": name, "vni": vni} for name, vni in statement.vnis],
        "blocks": [records.encode(block) for block in statement.blocks],
        "addresses": [{"network": name, "address": str(address)} for name, address in statement.addresses],
        "reservations": [records.encode(reservation) for reservation in statement.reservations],
    }


def decode(fields: Fields) -> Statement:
    """Read a statement; raise `InvalidValue` that names the field."""
    return Statement(
        knew=parse_lineage(fields.text("knew"), fields.at("knew")) if fields.has("knew") else None,
        revision=Revision(fields.number("revision")),
        vnis=tuple(
            (ids.network_name(each.text("name"), each.at("name")), ids.vni(each.number("vni"), each.at("vni")))
            for each in fields.objects("networks")
        ),
        blocks=tuple(records.decode_block(each) for each in fields.objects("blocks")),
        addresses=tuple(
            (ids.network_name(each.text("network"), each.at("network")), each.address("address"))
            for each in fields.objects("addresses")
        ),
        reservations=tuple(records.decode_reservation(each) for each in fields.objects("reservations")),
    )
