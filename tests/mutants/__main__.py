"""Mutation tests of one pure package: `python -m tests.mutants PACKAGE [--minutes N] [--record]`.

mutmut changes the code of the package in many small ways, and the unit tests that reach the changed function are run. A
mutant that passes all of them is shown to mypy: what mypy refuses does not get into the tree. Any other has *survived*:
a test is missing, or the change makes no difference, and then `explained/PACKAGE.toml` says why. mutmut works in a copy
of the tree below build/mutants; a run that reached its time limit is continued there by the next one. Module constants,
properties, and decorated functions other than class and static methods are not changed.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.mutants import explanations, outcome, table
from tests.mutants.outcome import Mutant, Result
from tests.mutants.packages import PACKAGES, Package

ROOT = Path(__file__).resolve().parent.parent.parent
PROGRAM = Path(__file__).with_name("mutmut_run.py")

COPIED = ("cni", "controller", "overlayd", "tests")
"""The packages that the tests import, and the tests."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit status: 1 when a mutant survived without an explanation, or an explanation is out of date."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=__doc__)
    parser.add_argument("package", choices=sorted(PACKAGES))
    parser.add_argument("--minutes", type=float, default=30.0, help="the time limit; 30 by default")
    parser.add_argument("--record", action="store_true", help="start over, and write the result to the documentation")
    given = parser.parse_args(arguments)
    package = PACKAGES[given.package]
    directory = ROOT / "build" / "mutants" / given.package
    if given.record:
        shutil.rmtree(directory, ignore_errors=True)
    prepare(directory, package)
    outcome.forget_survivors(directory, package)
    status = run(directory, package, given.minutes)
    if status:
        return status
    found, known = outcome.read(directory, package), explanations.read(given.package)
    counted, outdated = outcome.count(found, known), outcome.out_of_date(found, known)
    report(found, known, outdated)
    print(f"{given.package}: {counted}")
    if given.record and not counted.untested:
        table.record(ROOT / "docs" / "development.md", given.package, counted, datetime.now(UTC).date())
    return 1 if counted.survived or counted.untested or outdated else 0


def prepare(directory: Path, package: Package) -> None:
    """Bring the copy of the tree up to date, and write the configuration of mutmut into it."""
    for name in COPIED:
        shutil.rmtree(directory / name, ignore_errors=True)
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__", "launcher"))
    shutil.rmtree(directory / "mutants" / "tests", ignore_errors=True)
    (directory / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)  # a test may reach other functions by now
    configuration = {
        "source_paths": [name for name in COPIED if name != "tests"],
        "only_mutate": package.modules,
        "pytest_add_cli_args": ["-p", "no:cacheprovider", "-p", "no:xdist"],
        "pytest_add_cli_args_test_selection": package.tests,
        # Other programs may use the processors, so the bound that counts is the one on processor time in `mutmut_run`.
        "timeout_multiplier": 60.0,
        "use_git_change_detection": False,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in configuration.items()]
    settings = (ROOT / "pyproject.toml").read_text()
    (directory / "pyproject.toml").write_text("\n".join([settings, "[tool.mutmut]", *lines, ""]))


def run(directory: Path, package: Package, minutes: float) -> int:
    """Run mutmut, at most for so many minutes; return its exit status."""
    command = [sys.executable, str(PROGRAM), "run", "--max-children", str(package.processes)]
    with subprocess.Popen(command, cwd=directory, start_new_session=True) as running:
        try:
            return running.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGTERM)  # also the processes that test mutants
            return 0


def report(found: Sequence[Mutant], known: Mapping[str, str], outdated: Sequence[str]) -> None:
    """Print the survivors without an explanation, and the explanations that are out of date."""
    for mutant in found:
        if mutant.result is Result.SURVIVED and mutant.change not in known:
            print(mutant.change)
    for change in outdated:
        print(f"out of date: {change}")


if __name__ == "__main__":
    sys.exit(main())
