"""The programs of this project, as what the files of an installation are made of."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

import typer
from typer.core import TyperGroup
from typer.main import get_command

from overlayd.model.errors import NotFound


class Role(StrEnum):
    """What a machine is for."""

    CONTROLLER = "controller"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Program:
    """A command, the section of its manual page, the roles of machines that have it, and the files that it knows."""

    name: str
    section: int
    summary: str
    roles: frozenset[Role]
    files: tuple[tuple[str, str], ...]
    see_also: tuple[str, ...]


_LOGIN = ("~/.config/overlayd/login.json", "The login of the person.")

PROGRAMS = (
    Program(
        "overlay-controller",
        8,
        "controller of a VXLAN overlay network",
        frozenset({Role.CONTROLLER}),
        (
            ("/etc/overlayd/controller.toml", "Settings."),
            ("/etc/overlayd/controller.env", "Settings as variables of the environment, for the service."),
            ("/var/lib/overlay-controller", "The store, and where the first administrator's token is left."),
        ),
        ("overlayctl(1)", "overlayd(8)"),
    ),
    Program("overlayctl", 1, "administer VXLAN overlay networks", frozenset(Role), (_LOGIN,), ("overlayd(8)",)),
    Program(
        "overlayd",
        8,
        "host agent of a VXLAN overlay network",
        frozenset({Role.AGENT}),
        (
            ("/etc/overlayd/agent.toml", "Settings."),
            ("/etc/overlayd/agent.env", "Settings as variables of the environment, for the service."),
            ("/var/lib/overlayd", "The host's id, its credential, and the last known cluster."),
            ("/run/overlayd", "Sockets, and what is attached until the host boots."),
            ("/run/netns/ov-NETWORK", "The network namespace of a network."),
        ),
        ("overlayctl(1)", "overlay-controller(8)", "nsenter(1)", "ip-netns(8)"),
    ),
)


def of_roles(roles: Iterable[Role]) -> Iterator[Program]:
    """Yield the programs that a machine with any of these roles has."""
    wanted = frozenset(roles)
    return (program for program in PROGRAMS if program.roles & wanted)


def command(program: Program) -> TyperGroup:
    """Return the tree of commands that a program runs; raises `NotFound` where this installation has no such program.

    By the entry point and not by import: the host side knows nothing of the controller's code.
    """
    for point in metadata.distribution("overlayd").entry_points.select(group="console_scripts", name=program.name):
        app = getattr(__import__(point.module, fromlist=["app"]), "app", None)
        if isinstance(app, typer.Typer) and isinstance(tree := get_command(app), TyperGroup):
            return tree
    raise NotFound(f"there is no program {program.name} in this installation")
