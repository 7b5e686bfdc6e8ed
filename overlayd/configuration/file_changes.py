"""Writing settings into a daemon's file, for commands that set a machine up."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import typer

from overlayd.configuration import environment_file, files, sources, toml_file
from overlayd.configuration.files import write_atomically
from overlayd.configuration.schema import Schema
from overlayd.model.errors import InvalidValue

_MODE = 0o644
"""Readable for everyone: a service may run as a user of its own, and the file contains no secrets."""


@dataclass(frozen=True, slots=True)
class FileChanges:
    """The settings that a command writes into a daemon's file."""

    path: Path
    values: Mapping[str, str | list[str]]

    def write(self) -> bool:
        """Write the settings that the file does not have yet; return whether there were any. Raises `OSError`."""
        before = self.path.read_text() if files.exists(self.path) else ""
        said = toml_file.parse(self.path, before)
        missing = {
            key: value for key, value in self.values.items() if not ((found := said.find(key)) and found.value == value)
        }
        if missing:
            write_atomically(self.path, toml_file.changed(before, missing).encode(), _MODE)
        return bool(missing)

    @contextmanager
    def on_trial(self) -> Iterator[bool]:
        """Write the settings as `write`, and restore the file if the `with` block raises. Raises `OSError`."""
        before = self.path.read_bytes() if files.exists(self.path) else None
        with ExitStack() as failing:
            changed = self.write()
            if changed and before is None:
                failing.callback(self.path.unlink)
            elif changed and before is not None:
                failing.callback(write_atomically, self.path, before, _MODE)
            yield changed
            failing.pop_all()


def given(context: typer.Context, key: str) -> bool:
    """Return whether the command itself got a setting, by a flag or in its environment."""
    setting = sources.configured(context).schema.find(key)
    found = context.get_parameter_source(setting.parameter) if setting else None
    return found is not None and found.name in {"COMMANDLINE", "ENVIRONMENT"}


def check_environment_file(schema: Schema, keys: Collection[str]) -> None:
    """Raise `InvalidValue` when the service's environment file sets one of these keys, which would take precedence.

    It must not name another TOML file either. A variable with an empty value counts as unset.
    """
    path = schema.path.with_suffix(".env")
    said = environment_file.read(path)
    theirs = [schema.config_variable, *(schema.variable(each) for each in schema.settings if each.key in keys)]
    for variable in theirs:
        if said.get(variable):
            raise InvalidValue(
                f"is set in {path}, which takes precedence over {schema.path}: remove it there, then try again",
                field=variable,
            )


def check_service_file(schema: Schema, config: Path | None) -> None:
    """Raise `InvalidValue` when `config` is not the file that the service reads."""
    if config is not None and config.absolute() != schema.path:
        raise InvalidValue(
            f"the service reads {schema.path}, not {config}; another file is possible with --no-start only",
            field="--config",
        )
