"""`overlayctl capacity`: how many addresses, VNIs and host numbers are in use."""

from typing import TYPE_CHECKING, Annotated

import typer

from overlayd.cli import tables
from overlayd.cli.access import api
from overlayd.wire.fields import Fields

if TYPE_CHECKING:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

_BAR = 20
"""Characters."""

_READABLE = 10**9

_STYLES = {"warning": "yellow", "critical": "bold red"}


def show(
    context: typer.Context,
    network: Annotated[str | None, typer.Option("--network", help="Of this network only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show how much of each range, of the VNIs and of the host numbers is allocated, and which are nearly used up."""
    controller = api(context)
    found = controller.get("/v1/capacity" if network is None else f"/v1/networks/{network}/capacity")
    if as_json:
        tables.show_json(found)
        return
    fields = Fields(found)
    tables.show(_ranges(fields.objects("networks") if network is None else [fields]))
    if network is None:
        tables.show(_numbers(fields))
        for alarm in fields.objects("alarms"):
            taken = f"{alarm.number('taken')} of {alarm.number('total')}"
            typer.echo(f"{alarm.text('level')}: {taken} {alarm.text('subject')}: {alarm.text('advice')}", err=True)


def _ranges(networks: list[Fields]) -> "Table":
    from rich.text import Text

    columns = ("network", "range", "blocks", "", "used", "withheld", "resting", "reserved", "free", "of")
    made = tables.table("Ranges", columns, ())
    for network in networks:
        levels = {each.number("family"): _level(each) for each in network.objects("families")}
        for pool in network.objects("pools"):
            family = 6 if ":" in pool.text("range") else 4
            total, reserved, free = (pool.number(name) for name in ("total", "reserved", "free"))
            counts = (pool.number(name) for name in ("used", "withheld", "quarantined", "reserved", "free", "total"))
            made.add_row(
                Text(network.text("network")),
                Text(pool.text("range")),
                Text(f"/{pool.number('block_length')}"),
                _bar(total - reserved - free, total - reserved, levels[family]),
                *(Text(_count(number)) for number in counts),
            )
    return made


def _numbers(fields: Fields) -> "Table":
    from rich.text import Text

    made = tables.table("Numbers", ("of", "", "taken", "total"), ())
    for name, supply in (("VNIs", fields.object("vnis")), ("host numbers", fields.object("host_numbers"))):
        taken, total = supply.number("taken"), supply.number("total")
        made.add_row(Text(name), _bar(taken, total, _level(supply)), Text(_count(taken)), Text(_count(total)))
    return made


def _level(supply: Fields) -> str | None:
    return supply.text("level") if supply.has("level") else None


def _bar(taken: int, total: int, level: str | None) -> "ProgressBar":
    from rich.progress_bar import ProgressBar

    style = _STYLES.get(level or "", "green")
    return ProgressBar(
        total=total or 1, completed=taken if total else 1, width=_BAR, complete_style=style, finished_style=style
    )


def _count(number: int) -> str:
    """Return a number in digits, or a large one as a power of two or rounded."""
    return (
        str(number)
        if number < 10**9
        else f"2^{number.bit_length() - 1}"
        if number.bit_count() == 1
        else f"{number:.3g}"
    )
