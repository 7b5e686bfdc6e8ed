"""Reads and changes a TOML file of settings statement by statement, so that errors can name the line.

`tomllib` does not report lines. A TOML file without tables is a sequence of statements `key = value`, each of which
occupies whole lines: the shortest sequence of lines that is valid TOML by itself.
"""

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

from overlayd.model.errors import InvalidValue

SIZE_MAX = 64 * 1024
"""Bytes; a file of settings has a few dozen lines."""

Toml = bool | int | float | str | datetime | date | time | list["Toml"] | dict[str, "Toml"]
"""The value of a key in a TOML file."""


@dataclass(frozen=True, slots=True)
class TomlStatement:
    """One key and its value; `first` and `last` are lines, counted from 1."""

    key: str
    value: Toml
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Fault:
    """An error in a file. `line` is None for the file as a whole, `key` None where no key could be read."""

    path: Path
    line: int | None
    key: str | None
    detail: str

    @property
    def place(self) -> str:
        """File, line and key: ``/etc/overlayd/agent.toml:7: vtep``."""
        line = "" if self.line is None else f":{self.line}"
        return f"{self.path}{line}" + (f": {self.key}" if self.key else "")

    @property
    def error(self) -> InvalidValue:
        return InvalidValue(self.detail, field=self.place)


@dataclass(frozen=True, slots=True)
class TomlFile:
    """The statements and faults of a file. A missing file has none."""

    path: Path
    statements: tuple[TomlStatement, ...] = ()
    faults: tuple[Fault, ...] = ()

    def find(self, key: str) -> TomlStatement | None:
        """Return the statement that sets a key, if there is one."""
        return next((each for each in self.statements if each.key == key), None)


def read(path: Path, *, may_be_missing: bool = False) -> TomlFile:
    """Read a file of settings. Every error, also that it cannot be read, is one of its faults."""
    try:
        with path.open("rb") as file:
            content = file.read(SIZE_MAX + 1)
        if len(content) > SIZE_MAX:
            return TomlFile(path, (), (Fault(path, None, None, f"has more than {SIZE_MAX} bytes"),))
        text = content.decode()
    except OSError as error:
        if may_be_missing and isinstance(error, FileNotFoundError):
            return TomlFile(path)
        return TomlFile(path, (), (Fault(path, None, None, f"cannot be read: {error.strerror}"),))
    except UnicodeDecodeError:
        return TomlFile(path, (), (Fault(path, None, None, "is not UTF-8 text"),))
    return parse(path, text)


def parse(path: Path, text: str) -> TomlFile:
    """Parse the content of a file. Parsing ends at the first fault of the syntax."""
    statements: dict[str, TomlStatement] = {}
    faults: list[Fault] = []
    for found in _statements(path, text):
        if isinstance(found, Fault):
            faults.append(found)
        elif isinstance(found.value, dict):
            faults.append(Fault(path, found.first, found.key, "there are no tables here: each setting has one key"))
        elif _is_large(found.value):
            faults.append(Fault(path, found.first, found.key, "has an integer of more than 64 bits"))
        elif _has_null(found.value):
            faults.append(Fault(path, found.first, found.key, "has a null character"))
        elif found.key in statements:
            before = statements[found.key].first
            faults.append(Fault(path, found.first, found.key, f"is set in line {before} already"))
        else:
            statements[found.key] = found
    return TomlFile(path, tuple(statements.values()), tuple(faults))


def _statements(path: Path, text: str) -> Iterator[TomlStatement | Fault]:
    lines = text.split("\n")
    first = 0
    while first < len(lines):
        last, parsed = first, None
        refused = ""
        while parsed is None and last < len(lines):
            last += 1
            try:
                parsed = tomllib.loads("\n".join([*lines[first:last], ""]))
            except tomllib.TOMLDecodeError as error:
                refused = str(error)
            except (ValueError, RecursionError):  # Python's own limits
                yield Fault(path, first + 1, None, "has a number too long, or brackets too deep")
                return
        if parsed is None:
            yield Fault(path, first + 1, None, f"is no TOML: {refused.partition(' (at ')[0]}")
            return
        for key, value in parsed.items():
            yield TomlStatement(key, value, first + 1, last)
        first = last


def _is_large(value: Toml) -> bool:
    """Return whether a value contains an integer of more than 64 bits, which Python may refuse to print."""
    if isinstance(value, list):
        return any(map(_is_large, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _has_null(value: Toml) -> bool:
    """Return whether a value contains a null character, which no argument, variable or path can contain."""
    return any(map(_has_null, value)) if isinstance(value, list) else isinstance(value, str) and "\0" in value


def changed(text: str, values: dict[str, str | list[str]]) -> str:
    """Return a file's content with these keys set: in place where they are set already, otherwise at the end.

    Everything else is unchanged, also comments. The content must have no faults.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    found = {each.key: each for each in parse(Path(), text).statements}
    for key in sorted(values, key=lambda key: found[key].first if key in found else 0, reverse=True):
        if key in found:
            lines[found[key].first - 1 : found[key].last] = [rendered(key, values[key])]
    lines += [rendered(key, value) for key, value in values.items() if key not in found]
    return "\n".join(lines) + "\n"


def rendered(key: str, value: Toml | list[str]) -> str:
    """Return the text of a statement."""
    return f"{key} = {_rendered(value)}"


def _rendered(value: Toml | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_rendered, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
    return json.dumps(value)
