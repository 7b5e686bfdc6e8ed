"""The settings of a daemon, and their values from its TOML file and from credentials.

Each is a flag, a variable of the environment and a key of the TOML file.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from overlayd.configuration import toml_file
from overlayd.configuration.systemd_credentials import credential
from overlayd.configuration.toml_file import Fault, Toml, TomlStatement
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted


class ValueKind(Enum):
    """The type of a setting's value in a TOML file, with its name in errors."""

    TEXT = "a string"
    TEXTS = "strings"
    PATH = "a path"
    STORE = "a path or a URL"
    INTEGER = "an integer"
    NUMBER = "a number"
    SWITCH = "true or false"


Value = str | list[str] | int | float
"""A value as an option of the command takes it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `key` is its name in the file, and ``--key`` its flag.

    `choices` are the allowed values, empty if any is allowed. `credential` is the systemd credential (systemd.exec(5),
    `LoadCredential=`) whose file is the default of a setting that names a file.
    """

    key: str
    kind: ValueKind = ValueKind.TEXT
    choices: tuple[str, ...] = ()
    credential: str | None = None

    @property
    def flag(self) -> str:
        return f"--{self.key}"

    @property
    def parameter(self) -> str:
        """The name of the parameter of the command's function."""
        return self.key.replace("-", "_")

    def converted(self, value: Any) -> Any:  # noqa: ANN401 - of whatever type the setting is
        """Return a value of typer's context as the command gets it: typer makes paths when it calls the command."""
        return Path(value) if self.kind is ValueKind.PATH and isinstance(value, str) else value

    def value(self, said: Toml) -> Value:
        """Return the value in a file, checked; raise `InvalidValue` without a field when its type is wrong."""
        match self.kind, said:
            case ((ValueKind.TEXT | ValueKind.PATH | ValueKind.STORE), str()) if (
                not self.choices or said in self.choices
            ):
                return said
            case ValueKind.TEXTS, str():
                return [said]
            case ValueKind.TEXTS, [_, *_] if all(isinstance(item, str) for item in said):
                return [str(item) for item in said]
            case ((ValueKind.INTEGER | ValueKind.NUMBER), int()) if not isinstance(said, bool):
                return said
            case ValueKind.SWITCH, bool():
                return said
            case ValueKind.NUMBER, float():
                return said
        raise InvalidValue(self.refusal(said))

    def is_for_services(self, value: str) -> bool:
        """Return whether a value does not depend on the working directory, which differs between services and users."""
        match self.kind:
            case ValueKind.PATH:
                return Path(value).is_absolute()
            case ValueKind.STORE:
                return Path(value).is_absolute() or "://" in value
        return True

    def refusal(self, said: Toml) -> str:
        """Return the text of the error for a wrong value."""
        if self.choices and isinstance(said, str):
            return f"{quoted(said)} is not one of {', '.join(self.choices)}"
        shown = str(said).lower() if isinstance(said, bool) else quoted(said)
        return f"expected {self.kind.value}, not {shown}"


@dataclass(frozen=True, slots=True)
class Schema:
    """The settings of one daemon and the path of its TOML file. `prefix` begins the names of its variables."""

    prefix: str
    path: Path
    settings: tuple[Setting, ...]
    _by_key: dict[str, Setting] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {setting.key: setting for setting in self.settings})

    @property
    def config_variable(self) -> str:
        """The variable of the environment that names another TOML file."""
        return f"{self.prefix}_CONFIG"

    def variable(self, setting: Setting) -> str:
        """Return the variable of the environment for a setting."""
        return f"{self.prefix}_{setting.parameter.upper()}"

    def find(self, key: str) -> Setting | None:
        return self._by_key.get(key)

    def of_flag(self, flag: str | None) -> Setting | None:
        """Return the setting of a flag, None for any other text."""
        return self.find(flag.removeprefix("--")) if flag and flag.startswith("--") else None

    def of_parameter(self, name: str | None) -> Setting | None:
        """Return the setting of a parameter of the command's function, None for any other name."""
        return self.find(name.replace("_", "-")) if name else None

    def value(self, statement: TomlStatement) -> tuple[Setting, Value]:
        """Return setting and value of a statement; raise `InvalidValue` without a field."""
        setting = self.find(statement.key)
        if setting is None:
            near = difflib.get_close_matches(statement.key.replace("_", "-"), self._by_key, 1)
            hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(sorted(self._by_key))}"
            raise InvalidValue(f"there is no such setting; {hint}")
        return setting, setting.value(statement.value)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was given. `name` is a flag, a variable, a key of a file or a credential; `line` counts from 1."""

    name: str
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        """Return the prefix of an error about the value."""
        line = "" if self.line is None else f":{self.line}"
        return f"{self.file}{line}: {self.name}" if self.file else self.name


@dataclass(frozen=True, slots=True)
class ConfiguredValues:
    """The values from the TOML file and from credentials, with their origins.

    `faults` are those of the file. `hidden` is the error that kept credentials from being read, if there was one.
    """

    schema: Schema
    values: dict[Setting, Value]
    origins: dict[Setting, Origin]
    faults: tuple[Fault, ...]
    hidden: OSError | None = None


def read(
    schema: Schema,
    path: Path | None,
    find: Callable[[str], Path | None] | None = None,
    *,
    may_be_new: bool = False,
) -> ConfiguredValues:
    """Read a daemon's TOML file and look for its credentials. Without `path` it is the default file, if that exists.

    `find` returns the file of a credential, and raises `OSError`; it is `credential` by default.
    """
    values: dict[Setting, Value] = {}
    origins: dict[Setting, Origin] = {}
    hidden = None
    for setting in filter(lambda each: each.credential, schema.settings):
        try:
            found = (find or credential)(str(setting.credential))
        except OSError as error:
            hidden = error
        else:
            if found:
                values[setting], origins[setting] = str(found), Origin(f"credential {setting.credential}")
    file = toml_file.read(path or schema.path, may_be_missing=path is None or may_be_new)
    faults = list(file.faults)
    for statement in file.statements:
        try:
            setting, value = schema.value(statement)
        except InvalidValue as error:
            faults.append(Fault(file.path, statement.first, statement.key, error.detail))
        else:
            values[setting], origins[setting] = value, Origin(setting.key, file.path, statement.first)
    return ConfiguredValues(schema, values, origins, tuple(sorted(faults, key=lambda fault: fault.line or 0)), hidden)
