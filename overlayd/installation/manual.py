"""Manual pages, made of the help texts of the programs (groff_man(7))."""

import re
from collections.abc import Iterable, Iterator
from importlib.metadata import version

import typer
from typer.core import TyperCommand, TyperGroup

from overlayd.installation.programs import Program, command

RELEASED = "2026-11-30"
"""The date of this release, which a manual page must have (groff_man(7), TH)."""

_Command = TyperCommand | TyperGroup

_OMITTED = {"help", "install_completion", "show_completion"}
"""Parameters that every command has, or that an installation makes useless."""

_ENVIRONMENT = re.compile(r"\[env var: (\w+)")


def manual_page(program: Program) -> str:
    """Return the manual page of a program. Its date is that of the release, so that builds are reproducible."""
    tree = command(program)
    context = typer.Context(tree, info_name=program.name)
    listed = list(_commands(tree, context))
    everything: list[tuple[_Command, typer.Context]] = [(tree, context), *listed]
    lines = [
        f'.TH {_text(program.name.upper())} {program.section} "{RELEASED}" "overlayd {version("overlayd")}"',
        ".SH NAME",
        f"{_text(program.name)} \\- {_text(program.summary)}",
        ".SH SYNOPSIS",
        f".B {_text(program.name)}",
        _text(" ".join(tree.collect_usage_pieces(context))),
        ".SH DESCRIPTION",
        *_paragraphs(tree.help),
        ".SH OPTIONS",
        *_parameters(tree, context),
        ".SH COMMANDS",
    ]
    for one, its_context in listed:
        lines += [f".SS {_text(_usage(one, its_context))}", *_paragraphs(one.help), *_parameters(one, its_context)]
    variables = sorted({name for one, its_context in everything for name in _variables(one, its_context)})
    if variables:
        lines += [".SH ENVIRONMENT", "These variables set the defaults of options:"]
        lines += [line for name in variables for line in (".TP", f".B {_text(name)}")]
    lines.append(".SH FILES")
    for path, meaning in program.files:
        lines += _entry(path, meaning)
    lines += [".SH SEE ALSO", _text(", ".join(program.see_also))]
    return "\n".join(lines) + "\n"


def _commands(group: TyperGroup, context: typer.Context) -> Iterator[tuple[TyperCommand, typer.Context]]:
    """Yield every visible command below a group except subgroups, in the order of the help."""
    for name in group.list_commands(context):
        one = group.get_command(context, name)
        inner = typer.Context(one, info_name=name, parent=context) if one else None
        if isinstance(one, TyperGroup) and inner:
            yield from _commands(one, inner)
        elif isinstance(one, TyperCommand) and inner and not one.hidden:
            yield one, inner


def _usage(one: TyperCommand, context: typer.Context) -> str:
    return " ".join([context.command_path, *one.collect_usage_pieces(context)])


def _parameters(one: _Command, context: typer.Context) -> Iterator[str]:
    for written, meaning in _records(one, context):
        yield from _entry(written, meaning)


def _records(one: _Command, context: typer.Context) -> Iterable[tuple[str, str]]:
    listed = [parameter for parameter in one.get_params(context) if parameter.name not in _OMITTED]
    return [record for parameter in listed if (record := parameter.get_help_record(context))]


def _variables(one: _Command, context: typer.Context) -> set[str]:
    return {name for _, meaning in _records(one, context) for name in _ENVIRONMENT.findall(meaning)}


def _entry(term: str, meaning: str) -> tuple[str, str, str]:
    return (".TP", f".B {_text(term)}", _text(meaning))


def _paragraphs(help_text: str | None) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", (help_text or "").strip()):
        yield from (".PP", _text(" ".join(paragraph.split())))


def _text(text: str) -> str:
    """Return a line of text escaped for roff: in ASCII, with ASCII hyphens, and never taken for a request."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    escaped = "".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in escaped)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
