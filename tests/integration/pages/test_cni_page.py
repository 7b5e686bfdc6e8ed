"""docs/cni.md tells what happens: every example of it is executed, and it has one for every key."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from typer.testing import CliRunner

from overlayd.agent.program import app
from overlayd.wire.cni.requests import Command
from tests.support.lab.lab import ROOT, Container, Executed, Lab, LabHost
from tests.support.lab.processes import eventually

pytestmark = pytest.mark.usefixtures("root")

PAGE = (ROOT / "docs/cni.md").read_text()
KEYS = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE)))
"""The names in the first column of each table: of keys, and of arguments."""


@dataclass(frozen=True)
class Example:
    """What an administrator does before, an operation, its answer, and commands with lines that they print."""

    text: str
    before: tuple[str, ...]
    command: str
    variables: dict[str, str]
    config: dict[str, object]
    answer: object
    after: tuple[tuple[str, tuple[str, ...]], ...]

    def __str__(self) -> str:
        return f"{self.command} {' '.join(self.variables)}"


def examples() -> Iterator[Example]:
    operations = "|".join(Command)
    for text in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL):
        found = re.fullmatch(
            rf"((?:\$ .*\n)*)({operations})(.*)\n(\{{.*?)→ (.*?)((?:^\$.*)?)", text, re.DOTALL | re.MULTILINE
        )
        if found:
            before, command, variables, config, answer, after = found.groups()
            yield Example(
                text,
                tuple(before.replace("$ ", "").splitlines()),
                command,
                dict(pair.split("=", 1) for pair in variables.split()),
                json.loads(config),
                None if answer.strip() == "nothing" else json.loads(answer),
                tuple((part.splitlines()[0], tuple(part.splitlines()[1:])) for part in after.split("$ ")[1:]),
            )


def agrees(found: object, page: object) -> bool:
    """Return whether an answer agrees with the page, where `…` in a text stands for anything."""
    if isinstance(page, dict):
        return isinstance(found, dict) and all(name in found and agrees(found[name], page[name]) for name in page)
    if isinstance(page, list):
        return isinstance(found, list) and len(found) == len(page) and all(map(agrees, found, page))
    if isinstance(page, str):
        return isinstance(found, str) and fnmatchcase(found, re.sub(r"[\[*?]", "[\\g<0>]", page).replace("…", "*"))
    return found == page


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, LabHost]]:
    with Lab(tmp_path_factory.mktemp("lab"), hosts=1) as lab:
        lab.start_controller()
        lab.hosts[0].start_agent()
        for name, cidr in (("blue", "10.32.0.0/16"), ("red", "10.64.0.0/16")):
            lab.overlayctl("network", "create", name, "--range", cidr)
        lab.hosts[0].add_sandbox("c1")
        yield lab, lab.hosts[0]


@pytest.mark.parametrize("example", list(examples()), ids=str)
def test_the_answer_is_what_the_page_shows(host: tuple[Lab, LabHost], example: Example) -> None:
    lab, here = host
    for command in example.before:
        lab.overlayctl(*shlex.split(command)[1:])
    variables = {"CONTAINERID": "c1", "NETNS": "/run/netns/c1", "IFNAME": "eth0"}
    variables |= {name.removeprefix("CNI_"): value for name, value in example.variables.items()}
    done = here.cni(example.command, example.config, **variables)
    try:
        if example.answer is None:
            assert done == Executed(0, "", "")
            return
        assert agrees(done.json, example.answer), done.stdout
        assert done.status == int("code" in done.json)
        container = Container(here, "c1", str(example.config.get("name")), variables["IFNAME"], done.json)
        for command, lines in example.after:
            eventually(lambda: not missing(lab, container, command, lines), f"{command} prints {lines}")  # noqa: B023
    finally:
        deleted = here.cni("DEL", {"cniVersion": "1.0.0", "name": "blue", **_names(example)}, **variables)
        assert deleted == Executed(0, "", "")


def _names(example: Example) -> dict[str, object]:
    return {name: example.config[name] for name in ("name", "network") if name in example.config}


def missing(lab: Lab, container: Container, command: str, lines: tuple[str, ...]) -> list[str]:
    """Return the lines that a command does not print, in the container or where the administrator is."""
    typed = shlex.split(command)
    printed = lab.overlayctl(*typed[1:]) if typed[0] == "overlayctl" else container.run(*typed)
    found = [" ".join(line.split()) for line in printed.splitlines()]
    return [line for line in lines if not any(agrees(each, line) for each in found)]


@pytest.mark.parametrize("key", KEYS)
def test_the_page_has_an_example_of_every_key(key: str) -> None:
    name = key.removeprefix("runtimeConfig.").removeprefix("args.cni.").removeprefix("args.overlayd.")
    texts = [text for each in examples() for text in (json.dumps(each.config), " ".join(each.variables.values()))]
    assert any(f'"{name}"' in text or f"{name}=" in text for text in texts), f"{key} stands in no example"


def test_the_commands_of_the_installation(tmp_path: Path) -> None:
    where = ["--bin-dir", str(tmp_path), "--conf-dir", str(tmp_path)]
    commands = re.findall(r"^overlayd (install-cni.*?)(?: +#.*)?$", PAGE, re.MULTILINE)
    for command in commands:
        done = CliRunner().invoke(app, [*shlex.split(command), *where])
        assert done.exit_code == 0, done.output
    assert len(commands) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10-overlayd-podman-blue.conflist", "overlayd"]
