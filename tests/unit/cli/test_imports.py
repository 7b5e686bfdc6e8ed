"""`overlayctl` imports what a command needs, and nothing else: imports are most of the time that people wait."""

import subprocess
import sys

import pytest

PRINT_MODULES = """
import sys
sys.argv = ["overlayctl", *sys.argv[1:]]
from overlayd.cli.main import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""

SLOW = {"httpx", "rich", "ssl", "structlog", "pyroute2", "overlayd.agent.settings", "overlayd.dataplane.items"}


@pytest.mark.parametrize("command", [["--help"], ["network", "--help"]])
def test_what_asks_no_controller_imports_nothing_slow(command: list[str]) -> None:
    program = [sys.executable, "-c", PRINT_MODULES, *command]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    modules = set(done.stderr.splitlines())
    assert "overlayd.cli.main" in modules
    assert modules & SLOW == set()


def test_help_has_the_whole_first_sentence_of_each_command() -> None:
    program = [sys.executable, "-c", PRINT_MODULES, "--help"]
    shown = subprocess.run(program, capture_output=True, text=True, check=True, env={"COLUMNS": "60"}).stdout
    assert "..." not in shown.partition("Commands:")[2]
    assert "lagging hosts if the time runs out." in " ".join(shown.split())
