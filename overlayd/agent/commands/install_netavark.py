"""`overlayd install-netavark`: the plugin by which podman 5 and later put containers on networks."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from cni import install
from overlayd.installation.layout import NETAVARK_PLUGIN_DIR


def install_netavark(
    remove: Annotated[bool, typer.Option("--remove", help="Remove the plugin.")] = False,
    interpreted: Annotated[
        bool, typer.Option("--interpreted", help="Install the Python launcher, not the native one.")
    ] = False,
    plugin_dir: Annotated[
        Path, typer.Option(help="One of the directories in which podman looks: netavark_plugin_dirs.")
    ] = NETAVARK_PLUGIN_DIR,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Install the plugin for podman 5 and later, in one step. Then: podman network create -d overlayd NAME."""
    path = plugin_dir / install.PLUGIN
    try:
        done = [*install.remove([path])] if remove else [install.install_plugin(plugin_dir, interpreted=interpreted)]
    except OSError as error:
        typer.echo(f"overlayd: {error}", err=True)
        sys.exit(1)
    said = {"removed" if remove else "installed": [str(each) for each in done]}
    typer.echo(json.dumps(said, indent=2) if as_json else "\n".join(map(str, done)))
