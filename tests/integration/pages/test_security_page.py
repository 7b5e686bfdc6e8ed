"""docs/security.md: its table is the code's, and its commands work as they are printed."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from controller.api.http import permissions
from controller.identity.roles import ALLOWED, Role
from tests.support.controllers.secure import SecureController, secure_controller
from tests.support.lab.lab import COMMANDS, ROOT
from tests.support.pages.named_tests import missing

PAGE = (ROOT / "docs/security.md").read_text()
COMMANDS_SHOWN = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_table_says_what_the_code_says() -> None:
    shown = {}
    for line in PAGE.splitlines():
        what, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        if len(cells) == len(Role) and set(cells) <= {"●", "", "itself"}:
            shown[what.partition(":")[0]] = {role for role, cell in zip(Role, cells, strict=True) if cell}
    assert shown == {permission.value: set(roles) for permission, roles in ALLOWED.items()}


def test_the_open_paths_are_named() -> None:
    (sentence,) = re.findall(r"^Open to everybody are (.*?)\. ", PAGE, re.MULTILINE | re.DOTALL)
    assert set(re.findall(r"`(.*?)`", sentence)) == permissions.open_paths()


def rows_of_attackers() -> list[str]:
    """Return the rows of the tables below the headings that say what an attacker can do."""
    rows: list[str] = []
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE):
        if re.match(r"What an? .* can (do|reach)", section):
            table = [line for line in section.splitlines() if line.startswith("| ")]
            assert table, section.partition("\n")[0]
            rows += table[1:]
    return rows


def test_there_is_a_table_for_each_attacker() -> None:
    headings = re.findall(r"^## What an? (.*?) can (?:do|reach)", PAGE, re.MULTILINE)
    attackers = ["container", "host that was taken over", "neighbour on the underlay", "local user"]
    assert headings == ["container", *attackers, "stranger at a controller's port", "thief"]


def test_every_row_names_tests_that_exist_and_are_collected(request: pytest.FixtureRequest) -> None:
    assert [row for row in rows_of_attackers() if not re.search(r"\| (`test_\w+`(, )?)+ \|$", row)] == []
    assert missing(PAGE, request.session) == set()


def typed(running: SecureController, home: Path, commands: str) -> str:
    """Type commands as an administrator at this controller; return what they print."""
    environment = {
        "PATH": f"{COMMANDS}:{os.environ['PATH']}",
        "HOME": str(home),
        "COLUMNS": "200",
    }
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail"],
        input=commands.replace("https://10.0.0.1:7471", running.url),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=home,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


def test_the_commands_work_as_printed(tmp_path: Path, home: Path) -> None:
    making, logging_in, revoking, recovering, joining, asking = COMMANDS_SHOWN
    with secure_controller(tmp_path / "c") as running:
        place = running.directory
        typed(running, home, f"overlayctl login {running.url} --ca {place}/ca.pem --token-file {place}/admin-token")
        listed = typed(running, home, making)
        assert "anna" in listed
        assert "prometheus" in listed
        typed(running, home, joining)
        token = (home / "anna.token").read_text()
        typed(
            running,
            home,
            revoking.replace(
                "ID", typed(running, home, "overlayctl token create --role viewer --name brief").split("_")[1]
            ),
        )

        (home / "header").write_text(f"Authorization: Bearer {token}")
        (home / "ca.pem").write_text(running.authority)
        assert '"items"' in typed(running, home, asking)
        assert "anna (operator)" in typed(running, home, logging_in.replace("FINGERPRINT", running.fingerprint))

        running.process.stop()
        (command,) = [line for line in recovering.splitlines() if "admin-token" in line]
        here = command.removeprefix("sudo ").replace("/var/lib/overlay-controller", str(running.directory))
        typed(running, home, here)
        assert (home / "admin.token").read_text().startswith("ovt_")
