"""docs/dataplane.md shows what is there: every command of it runs, and prints every line that it shows."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support.lab.lab import ROOT, Lab, LabHost
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.usefixtures("root")

PAGE = (ROOT / "docs/dataplane.md").read_text()


@dataclass(frozen=True)
class Example:
    """A command, and lines of its output, in which `…` stands for anything."""

    command: str
    lines: tuple[str, ...]


def examples() -> Iterator[Example]:
    for block in re.findall(r"^```\n(\$ .*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        for part in block.split("$ ")[1:]:
            command, *lines = part.splitlines()
            yield Example(command, tuple(lines))


def setup() -> list[str]:
    """The commands of the administrator."""
    (block,) = re.findall(r"^```\n(overlayctl .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(block).splitlines()


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    with Lab(tmp_path_factory.mktemp("lab"), hosts=2) as lab:
        lab.start_controller()
        for each in lab.hosts:
            each.start_agent()
        for command in setup():
            lab.overlayctl(*shlex.split(command)[1:])
        containers = [
            each.attach(name, network) for name, network in (("c1", "blue"), ("c2", "red")) for each in lab.hosts
        ]
        lab.in_force(*containers)
        yield lab.hosts[0]


@pytest.mark.parametrize("example", list(examples()), ids=lambda example: example.command)
def test_the_command_prints_what_the_page_shows(host: LabHost, example: Example) -> None:
    def missing() -> list[str]:
        printed = [" ".join(line.split()) for line in host.run(*shlex.split(example.command)).splitlines()]
        texts = [*printed, " ".join(printed)]  # one line of the page may stand for what `ip -d` breaks into several
        # Releases of iproute2 and nftables print more or fewer words: `…` stands for any number of them, and for none.
        parts = {line: [" ".join(part.split()) for part in line.split("…")] for line in example.lines}
        patterns = {line: ".*".join(map(re.escape, words)) for line, words in parts.items()}
        return [line for line, pattern in patterns.items() if not any(re.fullmatch(pattern, text) for text in texts)]

    eventually(lambda: not missing(), f"{example.command} prints {missing()}")
