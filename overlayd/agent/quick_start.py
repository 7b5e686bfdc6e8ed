"""The settings of a service that starts as usual, read without the libraries of the command line.

Whatever is not plain (a fault, a question for help, a host that has yet to join) is left to the command line, which
reads everything once more and says what there is to say. Where both read settings, they read the same: a test compares
them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from overlayd.agent.controllers import credential
from overlayd.agent.settings import DEFAULT_RESYNC, DEFAULT_STATE_DIR, SCHEMA, LogLevel, Settings, choose
from overlayd.configuration.schema import Setting, Value, ValueKind, read
from overlayd.dataplane.desired.firewall import VXLAN_PORT, Metadata
from overlayd.model.errors import OverlayError

_DEFAULTS: dict[str, object] = {
    "controller": [],
    "name": "",
    "vtep": None,
    "vxlan-port": VXLAN_PORT,
    "metadata": Metadata.REFUSED,
    "state-dir": DEFAULT_STATE_DIR,
    "resync": DEFAULT_RESYNC,
    "allow-user": [],
    "log-level": LogLevel.INFO,
}

_CONVERTERS: dict[str, Callable[[Any], object]] = {
    "metadata": Metadata,
    "log-level": LogLevel,
    "resync": float,
    "state-dir": Path,
}


@dataclass(frozen=True, slots=True)
class PlainStart:
    """What a service runs with."""

    settings: Settings
    log_level: LogLevel


def plain_start(arguments: Sequence[str]) -> PlainStart | None:
    """Return the settings of `overlayd run` with these arguments, None where the full command line must parse them."""
    try:
        values = _values(arguments, os.environ)
        if values is None:
            return None
        log_level = LogLevel(values.pop("log_level"))
        known = credential.known(values["state_dir"])
        # The full command line decides whether a host without a credential joins or is refused.
        if known is None and credential.join_token():
            return None
        return PlainStart(choose(**values, credential=known), log_level)
    except (OverlayError, OSError, ValueError):
        return None


def _values(arguments: Sequence[str], environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Return the values of all settings by their parameters; None, or any error, for what is not plain."""
    given = _flags(arguments)
    if given is None:
        return None
    config, flags = given
    config = config or environment.get(SCHEMA.config_variable)
    if config is not None and not Path(config).is_absolute():
        return None
    file = read(SCHEMA, Path(config) if config else None)
    if file.faults or file.hidden:
        return None
    found: dict[str, Any] = {}
    for setting in SCHEMA.settings:
        said: Value | None = flags.get(setting)
        if said is None:
            text = environment.get(SCHEMA.variable(setting))
            said = file.values.get(setting) if not text else _from_text(setting, text)
            if said is not None and not setting.is_for_services(str(said)):
                return None
        convert = _CONVERTERS.get(setting.key)
        value = _DEFAULTS[setting.key] if said is None else convert(said) if convert else said
        found[setting.parameter] = value
    return found


def _flags(arguments: Sequence[str]) -> tuple[str | None, dict[Setting, Value]] | None:
    """Return the config file and the values that flags give; None for anything else than ``--flag value``."""
    config: str | None = None
    found: dict[Setting, Value] = {}
    rest = iter(arguments)
    for argument in rest:
        flag, separator, value = argument.partition("=")
        if not separator:
            value = next(rest, "-")
        setting = SCHEMA.of_flag(flag)
        if not flag.startswith("--") or not value or value.startswith("-"):
            return None
        if setting is None and flag != "--config":
            return None
        if setting is None:
            config = value
        elif setting.kind is ValueKind.TEXTS:
            before = found.get(setting, [])
            found[setting] = [*(before if isinstance(before, list) else []), value]
        else:
            found[setting] = _from_text(setting, value)
    return config, found


def _from_text(setting: Setting, text: str) -> Value:
    """Return the value of a flag or a variable; raise `ValueError` when it is not of the setting's type."""
    match setting.kind:
        case ValueKind.TEXTS:
            return text.split()
        case ValueKind.INTEGER:
            return int(text)
        case ValueKind.NUMBER:
            return float(text)
    return text
