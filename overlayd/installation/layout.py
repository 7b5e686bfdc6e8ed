"""The directories of an installation: of a virtual environment on this machine, or of the Debian package."""

from dataclasses import dataclass
from pathlib import Path, PurePath

from overlayd.configuration import files

CNI_PLUGIN_DIRS = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
"""The directories in which container runtimes look for CNI plugins, by the CNI project's and Debian's conventions."""


NETAVARK_PLUGIN_DIR = Path("/usr/local/lib/netavark")
"""Where podman looks for netavark's plugins without packages (containers.conf(5), netavark_plugin_dirs)."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The directories of an installation.

    `executed` is the directory of the programs in units, `linked` the target of the links in `commands`.
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
    netavark: Path
    plugins: tuple[Path, ...] = CNI_PLUGIN_DIRS


def beside(programs: Path) -> Layout:
    """Return the layout for a virtual environment with this directory of programs: below /usr/local and /etc."""
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
        netavark=NETAVARK_PLUGIN_DIR,
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
    netavark=Path("/usr/lib/netavark"),
)
"""The directories that Debian's policy prescribes. The environment is /usr/lib/overlayd."""


def packages_unit(root: Path) -> Path | None:
    """Return the unit of the Debian package, None unless it is installed on the machine with its files at `root`."""
    unit = root / PACKAGE.units.relative_to("/") / "overlayd.service"
    return unit if files.exists(unit) else None
