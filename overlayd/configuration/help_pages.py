"""The help of a program's commands: plain text, quick to make, and with each command's whole first sentence."""

from typing import TYPE_CHECKING

from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_LONG = 1000
"""Characters: longer than every first sentence."""


class PlainGroup(TyperGroup):
    """A group of commands whose first sentences are wrapped; typer cuts them to one line when rich does not draw."""

    def format_commands(self, ctx: "Context", formatter: "HelpFormatter") -> None:
        """Write one entry for each command that is not hidden."""
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        rows = [(name, each.get_short_help_str(_LONG)) for name, each in found if each is not None and not each.hidden]
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)
