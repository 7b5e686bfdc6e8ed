"""What mutmut found: its mutants, the changes that they make, and the result of each."""

import difflib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum, auto
from fnmatch import fnmatch
from pathlib import Path

from tests.mutants.packages import Package


class Result(Enum):
    """What came of one mutant."""

    KILLED = auto()
    REFUSED = auto()
    TIMEOUT = auto()
    SURVIVED = auto()
    UNTESTED = auto()


RESULTS = {
    1: Result.KILLED,
    3: Result.KILLED,
    -24: Result.TIMEOUT,
    0: Result.SURVIVED,
    33: Result.SURVIVED,
    None: Result.UNTESTED,
}
"""By mutmut's codes: the exit status of the tests, 33 without a test, the negative number of SIGXCPU."""

MYPY = ("--output=json", "--config-file=", "--strict", "--explicit-package-bases", "--no-warn-unused-ignores")
"""Errors of type only: what else the project has mypy refuse concerns spelling, such as an `and False` of mutmut's."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A mutant, named as mutmut names it. `change` is the function, its former lines and those that replace them."""

    name: str
    change: str
    result: Result


@dataclass(frozen=True, slots=True)
class Count:
    """The number of mutants with each result."""

    mutants: int
    killed: int
    refused: int
    timeouts: int
    explained: int
    survived: int
    untested: int


def read(directory: Path, package: Package) -> list[Mutant]:
    """Return the mutants of the copy of the tree in this directory."""
    found = [mutant for module in modules(directory, package) for mutant in _mutants(directory, module)]
    if not any(mutant.result is Result.SURVIVED for mutant in found):
        return found
    refused = _refused(directory, modules(directory, package))
    return [
        replace(mutant, result=Result.REFUSED)
        if mutant.result is Result.SURVIVED and mutant.name in refused
        else mutant
        for mutant in found
    ]


def modules(directory: Path, package: Package) -> list[Path]:
    """Return the paths of the modules of a package, below the directory."""
    paths = sorted(
        path.relative_to(directory) for top in ("cni", "overlayd") for path in (directory / top).rglob("*.py")
    )
    return [path for path in paths if any(fnmatch(str(path), pattern) for pattern in package.modules)]


def forget_survivors(directory: Path, package: Package) -> None:
    """Have mutmut test again what survived: the tests may have changed, which mutmut does not notice."""
    for module in modules(directory, package):
        meta = directory / "mutants" / f"{module}.meta"
        if meta.exists():
            found = json.loads(meta.read_text())
            codes = found["exit_code_by_key"]
            found["exit_code_by_key"] = {
                name: code if RESULTS.get(code) is Result.KILLED else None for name, code in codes.items()
            }
            meta.write_text(json.dumps(found))


def count(found: list[Mutant], known: Mapping[str, str]) -> Count:
    """Return the numbers of a table's row; a survivor is either explained or not."""
    results = [mutant.result for mutant in found]
    explained = sum(mutant.result is Result.SURVIVED and mutant.change in known for mutant in found)
    return Count(
        mutants=len(found),
        killed=results.count(Result.KILLED),
        refused=results.count(Result.REFUSED),
        timeouts=results.count(Result.TIMEOUT),
        explained=explained,
        survived=results.count(Result.SURVIVED) - explained,
        untested=results.count(Result.UNTESTED),
    )


def out_of_date(found: list[Mutant], known: Mapping[str, str]) -> list[str]:
    """Return the explained changes that no surviving mutant makes."""
    surviving = {mutant.change for mutant in found if mutant.result in {Result.SURVIVED, Result.UNTESTED}}
    return [change for change in known if change not in surviving]


def _mutants(directory: Path, module: Path) -> Iterator[Mutant]:
    meta = directory / "mutants" / f"{module}.meta"
    if not meta.exists():
        return
    spans = _spans(directory, module)
    lines = (directory / "mutants" / module).read_text().splitlines()
    for name, code in json.loads(meta.read_text())["exit_code_by_key"].items():
        mangled = name.rpartition(".")[2]
        function = mangled.partition("__mutmut_")[0]
        former, latter = (
            [line.strip().replace(f"{each}(", "(") for line in lines[spans[each][0] - 1 : spans[each][1]]]
            for each in (f"{function}__mutmut_orig", mangled)
        )
        place = ".".join([*module.with_suffix("").parts[1:], *re.sub("^x[_ǁ]", "", function).split("ǁ")])
        yield Mutant(name, f"{place}: {_difference(former, latter)}", RESULTS.get(code, Result.KILLED))


def _refused(directory: Path, changed: list[Path]) -> set[str]:
    """Return the names of the mutants in which mypy finds an error."""
    command = [sys.executable, "-m", "mypy", *MYPY, *map(str, changed)]
    done = subprocess.run(command, cwd=directory / "mutants", capture_output=True, text=True, check=False)
    errors = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    lines = {(error["file"], error["line"]) for error in errors if error["severity"] == "error"}
    return {
        f"{'.'.join(module.with_suffix('').parts)}.{name}"
        for module in changed
        for name, (first, last) in _spans(directory, module).items()
        if any((str(module), line) in lines for line in range(first, last + 1))
    }


def _spans(directory: Path, module: Path) -> dict[str, tuple[int, int]]:
    """Return the first and the last line of each function in the mutated module."""
    path = directory / "mutants" / f"{module}.spans"
    found: dict[str, tuple[int, int]] = json.loads(path.read_text())["spans"] if path.exists() else {}
    return found


def _difference(former: list[str], latter: list[str]) -> str:
    changed = [line for line in difflib.ndiff(former, latter) if line[0] in "+-"]
    return " ".join(line for line in (*(c for c in changed if c[0] == "-"), *(c for c in changed if c[0] == "+")))
