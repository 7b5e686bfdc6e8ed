"""Which settings a daemon has: each is a flag, a variable of the environment and a key of its TOML file."""

import difflib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from overlayd.configuration.toml_file import Statement, Toml
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted


class Kind(Enum):
    """What a setting's value is in a TOML file."""

    TEXT = "a string"
    TEXTS = "strings"
    PATH = "a path"
    STORE = "a path or a URL"
    INTEGER = "an integer"
    NUMBER = "a number"
    SWITCH = "true or false"


Value = str | list[str] | int | float
"""A value as an option takes it."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting. `key` is its name in the file, and ``--key`` its flag.

    `choices` are all values that it can have, if not many are. `credential` is the name of the systemd credential
    (systemd.exec(5), `LoadCredential=`) that is the file which the setting names, where nothing names one.
    """

    key: str
    kind: Kind = Kind.TEXT
    choices: tuple[str, ...] = ()
    credential: str | None = None

    @property
    def flag(self) -> str:
        return f"--{self.key}"

    @property
    def parameter(self) -> str:
        """The name of the argument of the command's function."""
        return self.key.replace("-", "_")

    def value(self, said: Toml) -> Value:
        """Return what a file says of it; raise `InvalidValue` without a field when it is of another kind."""
        match self.kind, said:
            case ((Kind.TEXT | Kind.PATH | Kind.STORE), str()) if not self.choices or said in self.choices:
                return said
            case Kind.TEXTS, str():
                return [said]
            case Kind.TEXTS, [_, *_] if all(isinstance(item, str) for item in said):
                return [str(item) for item in said]
            case ((Kind.INTEGER | Kind.NUMBER), int()) if not isinstance(said, bool):
                return said
            case Kind.SWITCH, bool():
                return said
            case Kind.NUMBER, float():
                return said
        raise InvalidValue(self.refusal(said))

    def is_for_services(self, value: str) -> bool:
        """Tell whether a value means the same in every directory: services work in another one than people."""
        match self.kind:
            case Kind.PATH:
                return Path(value).is_absolute()
            case Kind.STORE:
                return Path(value).is_absolute() or "://" in value
        return True

    def refusal(self, said: Toml) -> str:
        """Return what is wrong with a value that is none of this setting's."""
        if self.choices and isinstance(said, str):
            return f"{quoted(said)} is not one of {', '.join(self.choices)}"
        shown = str(said).lower() if isinstance(said, bool) else quoted(said)
        return f"expected {self.kind.value}, not {shown}"


@dataclass(frozen=True, slots=True)
class Schema:
    """The settings of one daemon, and where its file is. `prefix` begins the names of its variables."""

    prefix: str
    path: Path
    settings: tuple[Setting, ...]
    _by_key: dict[str, Setting] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_key", {setting.key: setting for setting in self.settings})

    @property
    def config_variable(self) -> str:
        """The name of the variable of the environment that names another file."""
        return f"{self.prefix}_CONFIG"

    def variable(self, setting: Setting) -> str:
        """Return the name of a setting's variable of the environment."""
        return f"{self.prefix}_{setting.parameter.upper()}"

    def find(self, key: str) -> Setting | None:
        return self._by_key.get(key)

    def of_flag(self, flag: str | None) -> Setting | None:
        """Return the setting of a flag, None when it is another option's or no flag."""
        return self.find(flag.removeprefix("--")) if flag and flag.startswith("--") else None

    def of_parameter(self, name: str | None) -> Setting | None:
        """Return the setting of an argument of the command's function, None when it is none."""
        return self.find(name.replace("_", "-")) if name else None

    def value(self, statement: Statement) -> tuple[Setting, Value]:
        """Return what a statement sets; raise `InvalidValue` without a field."""
        setting = self.find(statement.key)
        if setting is None:
            near = difflib.get_close_matches(statement.key.replace("_", "-"), self._by_key, 1)
            hint = f"did you mean {near[0]}?" if near else f"they are {', '.join(sorted(self._by_key))}"
            raise InvalidValue(f"there is no such setting; {hint}")
        return setting, setting.value(statement.value)
