"""Mutation tests of one pure package: `python -m tests.mutants PACKAGE [--minutes N] [--processes N] [FILE...]`.

mutmut changes the code of the package in many small ways, and runs the unit and property tests that execute the changed
function. A mutant that passes every test has *survived*: a test is missing, or the change makes no difference. mutmut
works in a copy of the tree below build/mutants; a run that reached its time limit is continued there by the next one.
Module constants, properties, and decorated functions other than class and static methods are not changed.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MUTMUT = Path(sys.executable).with_name("mutmut")

COPIED = ("cni", "controller", "overlayd", "tests")
"""The packages that the tests import, and the tests."""

TESTS = {
    "model": ("tests/unit/model", "tests/unit/ipam", "tests/unit/wire"),
    "ipam": ("tests/unit/ipam", "tests/properties/test_ipam.py"),
    "wire": ("tests/unit/wire",),
    "dataplane": ("tests/unit/dataplane",),
}
"""The tests of a package. Slow property tests are left out, because a mutant that survives has passed all of them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 when the tests fail without a change, or when mutmut itself fails."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("package", choices=sorted(TESTS))
    parser.add_argument("files", nargs="*", metavar="FILE", help="modules, such as addresses; all by default")
    parser.add_argument("--minutes", type=float, default=30.0, help="the time limit; 30 by default")
    parser.add_argument("--processes", type=int, default=2, help="mutants tested at a time; 2 by default")
    given = parser.parse_args(arguments)
    directory = ROOT / "build" / "mutants" / given.package
    prepare(directory, given.package, given.files)
    command = [str(MUTMUT), "run", "--max-children", str(given.processes)]
    with subprocess.Popen(command, cwd=directory, start_new_session=True) as running:
        try:
            status = running.wait(60 * given.minutes)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGTERM)  # also the processes that test mutants
            status = 0
    if status:
        return status
    print(f"\n{given.package}: {summary(directory)}")
    subprocess.run([str(MUTMUT), "results"], cwd=directory, check=True)
    print(f"To see one: cd {directory.relative_to(ROOT)} && {MUTMUT} show NAME")
    return 0


def prepare(directory: Path, package: str, files: Sequence[str]) -> None:
    """Bring the copy of the tree up to date, and write the configuration of mutmut into it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        shutil.rmtree(directory / name, ignore_errors=True)
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__", "launcher"))
    modules = [f"overlayd/{package}/{file}.py" for file in files] or [f"overlayd/{package}/*.py"]
    configuration = {
        "source_paths": [name for name in COPIED if name != "tests"],
        "only_mutate": modules,
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist"],
        "pytest_add_cli_args_test_selection": TESTS[package],
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in configuration.items()]
    settings = (ROOT / "pyproject.toml").read_text()
    (directory / "pyproject.toml").write_text("\n".join([settings, "[tool.mutmut]", *lines, ""]))


def summary(directory: Path) -> str:
    """Return how many mutants there were, and the number of each result."""
    subprocess.run([str(MUTMUT), "export-cicd-stats"], cwd=directory, check=True, stdout=subprocess.DEVNULL)
    found = json.loads((directory / "mutants" / "mutmut-cicd-stats.json").read_text())
    killed = found["killed"] + found["timeout"]
    left = found["total"] - killed - found["survived"] - found["no_tests"]
    counts = f"{killed} killed, {found['survived']} survived, {found['no_tests']} in code that no test runs"
    return f"{found['total']} mutants: {counts}, {left} not tested"


if __name__ == "__main__":
    sys.exit(main())
