"""The files of an installation: their content, and how they are installed and removed."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePath

from cni.install import PLUGIN, plugin, replace_file
from overlayd.installation.completion import completion
from overlayd.installation.layout import Layout
from overlayd.installation.manual import manual_page
from overlayd.installation.programs import MachineRole, of_roles

UNITS = {MachineRole.CONTROLLER: "overlay-controller.service", MachineRole.AGENT: "overlayd.service"}
"""The systemd unit of each role."""

OTHER_UNITS = {MachineRole.AGENT: ("overlayd-netns@.service",)}
"""The units of a role that an administrator enables, when they are wanted."""

UNIT_PROGRAMS = "/usr/bin/"
"""The directory of the programs in the units of the source tree."""


@dataclass(frozen=True, slots=True)
class File:
    """A file."""

    path: Path
    content: bytes
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class SymbolicLink:
    """A symbolic link."""

    path: Path
    target: PurePath


def files(roles: Iterable[MachineRole], layout: Layout, shipped: Path) -> Iterator[File | SymbolicLink]:
    """Yield the files that machines of these roles need besides the environment; `shipped` has units and drop-ins.

    Raises OSError when those cannot be read.
    """
    wanted = frozenset(roles)
    for role in sorted(wanted):
        for name in (UNITS[role], *OTHER_UNITS.get(role, ())):
            unit = (shipped / "systemd" / name).read_text()
            executed = unit.replace(f"={UNIT_PROGRAMS}", f"={layout.executed}/")
            yield File(layout.units / name, executed.encode())
    for program in of_roles(wanted):
        yield SymbolicLink(layout.commands / program.name, layout.linked / program.name)
        page = f"man{program.section}/{program.name}.{program.section}"
        yield File(layout.manual / page, manual_page(program).encode())
        yield File(layout.bash / program.name, completion("bash", program.name).encode())
        yield File(layout.zsh / f"_{program.name}", completion("zsh", program.name).encode())
        yield File(layout.fish / f"{program.name}.fish", completion("fish", program.name).encode())
    if MachineRole.AGENT in wanted:
        for drop_in in sorted((shipped / "network").iterdir()):
            yield File(layout.network / drop_in.name, drop_in.read_bytes())
        for drop_in in sorted((shipped / "NetworkManager").iterdir()):
            yield File(layout.network_manager / drop_in.name, drop_in.read_bytes())
        for directory in layout.plugins:
            yield File(directory / PLUGIN, plugin(), 0o755)
        yield File(layout.netavark / PLUGIN, plugin(), 0o755)


def put(wanted: Iterable[File | SymbolicLink], root: Path) -> Iterator[Path]:
    """Install files below a root, each atomically; yield their paths. Raises OSError."""
    for each in wanted:
        place = under(root, each.path)
        if isinstance(each, File):
            replace_file(place, each.content, each.mode)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary = place.with_name(f".{place.name}.new")
            temporary.unlink(missing_ok=True)
            temporary.symlink_to(each.target)
            temporary.replace(place)
        yield place


def take_away(unwanted: Iterable[File | SymbolicLink], root: Path) -> Iterator[Path]:
    """Remove files and yield those that existed. A link with another target is not ours. Raises OSError."""
    for each in unwanted:
        place = under(root, each.path)
        if isinstance(each, SymbolicLink) and not _leads_to(place, each.target):
            continue
        with suppress(FileNotFoundError):
            place.unlink()
            yield place


def under(root: Path, path: Path) -> Path:
    """Return an absolute path of a machine whose file system is at `root`."""
    return root / path.relative_to("/")


def _leads_to(place: Path, target: PurePath) -> bool:
    return place.is_symlink() and place.readlink() == target
