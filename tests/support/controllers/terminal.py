"""A terminal at which an administrator types commands of overlayctl."""

import json
from dataclasses import dataclass

import httpx
from typer.testing import CliRunner

from overlayd.cli.main import app
from overlayd.model.errors import OverlayError


@dataclass(frozen=True, slots=True)
class Terminal:
    """A shell in which overlayctl is run."""

    api: httpx.Client

    def type(self, *arguments: str) -> str:
        """Return the output of a command; raise the error with which it ends."""
        environment = {"OVERLAY_CONTROLLER_URL": str(self.api.base_url), "COLUMNS": "200"}
        result = CliRunner().invoke(app, arguments, env=environment)
        if isinstance(result.exception, OverlayError):
            raise result.exception
        assert result.exit_code == 0, result.output
        return result.output

    def json(self, *arguments: str) -> object:
        """Return the decoded JSON output of a command."""
        return json.loads(self.type(*arguments, "--json"))
