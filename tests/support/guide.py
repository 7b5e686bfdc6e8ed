"""docs/install.md, as commands."""

import re

from tests.support.lab import ROOT

GUIDE = (ROOT / "docs/install.md").read_text()


def blocks(heading: str) -> list[str]:
    """Return the commands that stand below a heading, one text for each block."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", GUIDE, re.MULTILINE | re.DOTALL)
    assert section, heading
    return re.findall(r"^```\n(.*?)^```$", section[1], re.MULTILINE | re.DOTALL)
