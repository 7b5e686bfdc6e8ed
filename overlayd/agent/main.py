"""The entry point of the `overlayd` command: a service that starts as usual loads nothing that only people need."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import typer


def main() -> None:
    """Run the agent, or any other command of `overlayd`."""
    if sys.argv[1:2] == ["run"] and _has_run(sys.argv[2:]):
        return
    command_line()()


def __getattr__(name: str) -> object:
    """Return the command line as `app`, by which the installation finds it at an entry point (PEP 562)."""
    if name == "app":
        return command_line()
    raise AttributeError(name)


def command_line() -> "typer.Typer":
    """Return the command line of all commands; it is imported by the first call."""
    from overlayd.agent.program import app

    return app


def _has_run(arguments: list[str]) -> bool:
    """Run the agent to its end; return False at once where the command line has to look at the settings."""
    _import_structlog_without_rich()
    from overlayd.agent.quick_start import plain_start

    start = plain_start(arguments)
    if start is None:
        return False
    from overlayd.agent import daemon
    from overlayd.agent.runtime import logs
    from overlayd.agent.settings import failure_line
    from overlayd.model.errors import OverlayError

    logs.configure(start.log_level)
    try:
        daemon.start(start.settings)
    except (OverlayError, OSError) as error:
        print(f"overlayd: {failure_line(error)}", file=sys.stderr)  # noqa: T201 - as the command line does
        sys.exit(1)
    return True


def _import_structlog_without_rich() -> None:
    """Keep structlog from importing rich, for tracebacks on terminals: a good part of the time of a start."""
    if "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment] # as if it were not installed (sys.modules of Python's docs)
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]
