"""docs/configuration.md: its sessions print what they show, and its tables have every setting."""

import re
from pathlib import Path

import pytest

import controller.settings
import overlayd.agent.settings
from overlayd.configuration.schema import Schema
from tests.support.lab import COMMANDS, ROOT, Lab

PAGE = (ROOT / "docs/configuration.md").read_text()
SESSIONS = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FILE = SESSIONS[0].partition("\n")[2]


def section(heading: str) -> str:
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_sessions_print_what_they_show(tmp_path: Path) -> None:
    steps = re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", "".join(SESSIONS), re.MULTILINE)
    assert len(steps) >= 10
    with Lab(tmp_path / "lab", hosts=1) as lab:
        (host,) = lab.hosts
        path = f"PATH={COMMANDS}:/usr/bin"
        host.run("sh", "-c", f"mkdir /etc/overlayd; echo '{FILE.rstrip()}' >/etc/overlayd/agent.toml")
        for command, shown in steps:
            done = host.execute(["env", path, "sh", "-c", f"exec 2>&1; {command}"])
            assert done.stdout == shown, command


@pytest.mark.parametrize(
    ("heading", "schema"),
    [
        ("The agent's settings", overlayd.agent.settings.SCHEMA),
        ("The controller's settings", controller.settings.SCHEMA),
    ],
)
def test_the_tables_have_every_setting(heading: str, schema: Schema) -> None:
    cells = re.findall(r"^\| (`.*?) \|", section(heading), re.MULTILINE)
    named = [name for cell in cells for name in re.findall(r"`([a-z-]+)`", cell)]
    assert sorted(named) == sorted(setting.key for setting in schema.settings)


def test_every_credential_is_named() -> None:
    named = set(re.findall(r"`(overlay[a-z-]*\.[a-z-]+)`", section("Secrets")))
    shortened = {f"overlay-controller.{name}" for name in re.findall(r"`….([a-z-]+)`", section("Secrets"))}
    known = {each.credential for each in controller.settings.SCHEMA.settings if each.credential}
    assert named | shortened - {"overlayd.credential.json"} >= known | {"overlayd.join-token", "overlayd.credential"}
    assert {name for name in named | shortened if name.startswith("overlay-controller.")} == known
