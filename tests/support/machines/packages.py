"""The Debian package under another version."""

import re
import shutil
import subprocess
from pathlib import Path


def reversioned(package: Path, version: str, directory: Path) -> Path:
    """Return a package like this one of another version, in a directory."""
    tree = directory / "reversioned"
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    for path in (
        tree / "DEBIAN/control",
        *tree.glob("usr/lib/overlayd/lib/python3*/site-packages/overlayd-*/METADATA"),
    ):
        text, count = re.subn(r"^Version: .*$", f"Version: {version}", path.read_text(), count=1, flags=re.MULTILINE)
        assert count == 1
        path.write_text(text)
    made = directory / f"overlayd_{version}_amd64.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, made], check=True, capture_output=True)
    shutil.rmtree(tree)
    return made
