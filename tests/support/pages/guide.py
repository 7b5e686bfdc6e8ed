"""docs/install.md and docs/upgrade.md, as commands."""

import re

from tests.support.lab.lab import ROOT
from tests.support.machines.rootfs import PACKAGED, release

GUIDE = (ROOT / "docs/install.md").read_text()
UPGRADE = (ROOT / "docs/upgrade.md").read_text()


def blocks(heading: str, page: str = GUIDE, codename: str = "") -> list[str]:
    """Return the commands that stand below a heading of a page, one text for each block.

    The pages name the package of Debian 12; here it is that of a release, by default this machine's.
    """
    codename = codename or release()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, heading
    found: list[str] = re.findall(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
    return [block.replace("+deb12_", f"+deb{PACKAGED.get(codename, codename)}_") for block in found]
