"""`overlay-controller` imports what a command needs: the whole controller takes a second of the processor."""

import subprocess
import sys

import pytest

PRINT_MODULES = """
import sys
sys.argv = ["overlay-controller", *sys.argv[1:]]
from controller.main import main
try:
    main()
finally:
    print(*sys.modules, sep="\\n", file=sys.stderr)
"""

SLOW = {
    "controller.overlay",
    "cryptography",
    "email",
    "fastapi",
    "grpc",
    "httptools",
    "prometheus_client",
    "pydantic",
    "rich",
    "sqlite3",
    "starlette",
    "structlog",
    "uvicorn",
}


def imported(*command: str) -> set[str]:
    program = [sys.executable, "-c", PRINT_MODULES, *command]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    modules = set(done.stderr.splitlines())
    assert "controller.main" in modules
    return modules


@pytest.mark.parametrize(
    "command",
    [["--help"], ["run", "--help"], ["init", "--help"], ["backup", "--help"], ["admin-token", "--help"]],
)
def test_help_imports_nothing_slow(command: list[str]) -> None:
    assert imported(*command) & SLOW == set()


def test_the_version_takes_the_metadata_of_the_package_and_nothing_else() -> None:
    assert imported("--version") & SLOW <= {"email"}
