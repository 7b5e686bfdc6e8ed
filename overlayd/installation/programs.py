"""The programs of this project, from which manual pages and completion scripts are made."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata

import typer
from typer.core import TyperGroup
from typer.main import get_command

from overlayd.model.errors import NotFound


class MachineRole(StrEnum):
    """The part that a machine has in a cluster."""

    CONTROLLER = "controller"
    AGENT = "agent"


@dataclass(frozen=True, slots=True)
class Program:
    """A command, the section of its manual page, the roles of machines that have it, and the files that it uses."""

    name: str
    section: int
    summary: str
    roles: frozenset[MachineRole]
    files: tuple[tuple[str, str], ...]
    see_also: tuple[str, ...]


_LOGIN = ("~/.config/overlayd/login.json", "The user's login.")

PROGRAMS = (
    Program(
        "overlay-controller",
        8,
        "controller of a VXLAN overlay network",
        frozenset({MachineRole.CONTROLLER}),
        (
            ("/etc/overlayd/controller.toml", "Settings."),
            ("/etc/overlayd/controller.env", "Settings as variables of the environment, for the service."),
            ("/var/lib/overlay-controller", "The store, and where the first administrator's token is left."),
        ),
        ("overlayctl(1)", "overlayd(8)"),
    ),
    Program("overlayctl", 1, "administer VXLAN overlay networks", frozenset(MachineRole), (_LOGIN,), ("overlayd(8)",)),
    Program(
        "overlayd",
        8,
        "host agent of a VXLAN overlay network",
        frozenset({MachineRole.AGENT}),
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


def of_roles(roles: Iterable[MachineRole]) -> Iterator[Program]:
    """Yield the programs of a machine with these roles."""
    wanted = frozenset(roles)
    return (program for program in PROGRAMS if program.roles & wanted)


def command(program: Program) -> TyperGroup:
    """Return the command-line parser of a program; raise `NotFound` where this installation does not have the program.

    It is found by its entry point, because the host side must not import the controller's code.
    """
    for point in metadata.distribution("overlayd").entry_points.select(group="console_scripts", name=program.name):
        app = getattr(__import__(point.module, fromlist=["app"]), "app", None)
        if isinstance(app, typer.Typer) and isinstance(tree := get_command(app), TyperGroup):
            return tree
    raise NotFound(f"there is no program {program.name} in this installation")
