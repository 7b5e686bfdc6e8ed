"""`overlayd install-cni`: the CNI plugin and the configuration of networks, where container runtimes look."""

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from cni import install
from cni.install import Conf
from overlayd.configuration import files
from overlayd.installation.layout import PACKAGE, packages_unit


def install_cni(
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[NETWORK]...", help="Networks to write a configuration list for.")
    ] = None,
    remove: Annotated[
        bool,
        typer.Option("--remove", help="Remove the configuration of these networks; without any, all of it."),
    ] = False,
    name: Annotated[
        str,
        typer.Option(help="Name of the configuration, where it is not the network's: each runtime has its own."),
    ] = "",
    cni_version: Annotated[
        str, typer.Option(metavar="VERSION", help="Version of the CNI SPEC that runtimes are to speak.")
    ] = install.CNI_VERSION,
    pod_annotations: Annotated[
        bool, typer.Option("--pod-annotations", help="Let pods ask for addresses and reservations by annotations.")
    ] = False,
    interpreted: Annotated[
        bool, typer.Option("--interpreted", help="Install the Python launcher, not the native one.")
    ] = False,
    bin_dir: Annotated[Path, typer.Option(help="Where the runtimes look for plugins.")] = install.BIN_DIR,
    conf_dir: Annotated[Path, typer.Option(help="Where they look for configurations.")] = install.CONF_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Install the CNI plugin, and a configuration list for each of these networks. Each file changes in one step."""
    try:
        if name and len(networks or ()) != 1:
            raise ValueError("--name is for one network")  # noqa: TRY301 - reported as every other mistake
        confs = [Conf(network, name, cni_version, pod_annotations) for network in networks or ()]
        if remove:
            wanted = [install.conf_path(conf.listed_as, conf_dir) for conf in confs]
            removed = install.remove(wanted or _installed(bin_dir, conf_dir))
            _show(removed, {"removed": _texts(removed)}, as_json=as_json)
            return
        plugin = install.install_plugin(bin_dir, interpreted=interpreted)
        made = [install.install_conf(conf, conf_dir) for conf in confs]
        body = {"plugin": str(plugin), "native": install.is_native(plugin), "configurations": _texts(made)}
        _show([plugin, *made], body, as_json=as_json)
    except (OSError, ValueError) as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)


def ensure_plugin() -> Path:
    """Install the CNI plugin where the runtimes look, unless it is there; return its path. Raises OSError."""
    path = install.BIN_DIR / install.PLUGIN
    return path if files.exists(path) else install.install_plugin()


def _installed(bin_dir: Path, conf_dir: Path) -> list[Path]:
    """Return the files to remove; the Debian package removes the plugin that it brought."""
    packaged = PACKAGE.plugins if packages_unit(Path("/")) else ()
    return [path for path in install.installed(bin_dir, conf_dir) if path.parent not in packaged]


def _texts(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths]


def _show(paths: Iterable[Path], body: Mapping[str, object], *, as_json: bool) -> None:
    """Print the files, one per line, or the whole result as JSON."""
    typer.echo(json.dumps(body, indent=2) if as_json else "\n".join(_texts(paths)))
