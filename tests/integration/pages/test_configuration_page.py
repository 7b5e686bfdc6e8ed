"""docs/configuration.md: its sessions print what they show, and its tables have every setting."""

import re
from pathlib import Path

import pytest

import controller.settings
import overlayd.agent.settings
from overlayd.configuration.schema import Schema
from tests.support.lab.lab import COMMANDS, ROOT, Lab

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


def test_commands_see_the_credentials_of_the_services(tmp_path: Path) -> None:
    with Lab(tmp_path / "lab", hosts=1) as lab:
        (host,) = lab.hosts

        def shell(script: str) -> tuple[int, str]:
            done = host.execute(["env", f"PATH={COMMANDS}:/usr/bin:/bin", "sh", "-c", f"exec 2>&1; cd /etc; {script}"])
            return done.returncode, done.stdout

        toml, password = "/etc/overlayd/controller.toml", "overlay-controller.etcd-password"
        shell("mkdir -p overlayd credstore credstore.encrypted")
        shell(f'printf \'etcd-user = "me"\nstore = "etcd://127.0.0.1:1"\n\' >{toml}; echo geheim >credstore/{password}')
        assert shell("overlay-controller config check") == (0, "the settings are valid\n")
        shown = shell("overlay-controller config show")[1]
        assert f'etcd-password-file = "/etc/credstore/{password}"  # credential {password}\n' in shown
        assert "geheim" not in shown
        make = "overlay-controller init --no-start --listen 127.0.0.1"
        assert "now start it" in shell(make)[1]
        missing = f"{toml}:1: etcd-user: a user and the file of its password go together"
        assert missing in shell("overlay-controller run")[1], "a daemon has what systemd hands over"

        shell(f"mv credstore/{password} credstore.encrypted")
        assert shell("overlay-controller config check") == (0, "the settings are valid\n")
        assert f"{toml}:2: store: credentials for it are encrypted" in shell("overlay-controller admin-token")[1]
        shell("touch credstore/overlay-controller.tls-cert")
        status, output = shell("overlay-controller config check")
        assert (status, output.count("overlay-controller.tls-cert: goes with --tls-key\n")) == (1, 1)
        assert "credential overlay-controller.tls-cert: init is for controllers with" in shell(make)[1]

        shell("touch credstore/overlayd.join-token; echo 'controller = \"https://10.0.0.1:1\"' >overlayd/agent.toml")
        assert "is let in by its credential overlayd.join-token" in shell("overlayd config check")[1]
        shell("echo {} >credstore/overlayd.credential")
        assert "/etc/credstore/overlayd.credential: the credential is damaged" in shell("overlayd config check")[1]


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
