"""Where the files of an installation go: beside a virtual environment on this machine, or in a Debian package."""

from dataclasses import dataclass
from pathlib import Path, PurePath

from overlayd.configuration import files

CNI_PLUGIN_DIRS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
"""Where container runtimes look for CNI plugins: by the convention of the CNI project, and by Debian's."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of an installation.

    `executed` is where units find the programs, `linked` what the links in `commands` lead to.
    """

    executed: PurePath
    linked: PurePath
    commands: Path
    units: Path
    network: Path
    network_manager: Path
    manual: Path
    bash: Path
    zsh: Path
    fish: Path
    plugins: tuple[Path, ...] = CNI_PLUGIN_DIRS


def beside(programs: Path) -> Layout:
    """Return the layout of an environment whose programs are in this directory: all in the places of administrators."""
    share = Path("/usr/local/share")
    return Layout(
        executed=programs,
        linked=programs,
        commands=Path("/usr/local/bin"),
        units=Path("/etc/systemd/system"),
        network=Path("/etc/systemd/network"),
        network_manager=Path("/etc/NetworkManager/conf.d"),
        manual=share / "man",
        bash=share / "bash-completion/completions",
        zsh=share / "zsh/site-functions",
        fish=share / "fish/vendor_completions.d",
    )


PACKAGE = Layout(
    executed=PurePath("/usr/bin"),
    linked=PurePath("../lib/overlayd/bin"),
    commands=Path("/usr/bin"),
    units=Path("/lib/systemd/system"),
    network=Path("/lib/systemd/network"),
    network_manager=Path("/usr/lib/NetworkManager/conf.d"),
    manual=Path("/usr/share/man"),
    bash=Path("/usr/share/bash-completion/completions"),
    zsh=Path("/usr/share/zsh/vendor-completions"),
    fish=Path("/usr/share/fish/vendor_completions.d"),
)
"""Debian's places; the environment is /usr/lib/overlayd."""


def packages_unit(root: Path) -> Path | None:
    """Return the unit of the Debian package if that is on the machine whose files begin at `root`."""
    unit = root / PACKAGE.units.relative_to("/") / "overlayd.service"
    return unit if files.exists(unit) else None
