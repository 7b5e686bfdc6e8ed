"""docs/install.md and docs/upgrade.md, as commands."""

import re

from tests.support.lab.lab import ROOT

GUIDE = (ROOT / "docs/install.md").read_text()
UPGRADE = (ROOT / "docs/upgrade.md").read_text()


def blocks(heading: str, page: str = GUIDE) -> list[str]:
    """Return the commands that stand below a heading of a page, one text for each block."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    assert section, heading
    return re.findall(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
