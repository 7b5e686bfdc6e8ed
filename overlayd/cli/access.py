"""How `overlayctl` reaches a controller: by options and the environment, or by the saved login."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from overlayd.agent.controllers.trust import Trust
from overlayd.cli.api import Api
from overlayd.configuration.files import write_atomically
from overlayd.configuration.token_file import read_token
from overlayd.model.errors import InvalidValue, Unauthenticated
from overlayd.wire import credentials
from overlayd.wire.credentials import AccessToken, parse_access_token
from overlayd.wire.fields import Fields

DEFAULT_URL = "https://127.0.0.1:7471"

ControllerOption = Annotated[
    str | None,
    typer.Option(
        "--controller",
        envvar="OVERLAY_CONTROLLER_URL",
        help="URL of a controller. Default: that of the login.",
        show_default=False,
    ),
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        envvar="OVERLAY_TOKEN_FILE",
        help="A file with a token. Default: the token of the login.",
        show_default=False,
    ),
]
CaOption = Annotated[
    Path | None,
    typer.Option(
        "--ca",
        envvar="OVERLAY_CA_FILE",
        help="The certificate of the controllers' authority (PEM). Default: that of the login; without a login, "
        "the system's root certificates.",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True)
class Given:
    """The values from options and environment, None where there are none."""

    controller: str | None
    token_file: Path | None
    ca: Path | None


@dataclass(frozen=True, slots=True)
class SavedLogin:
    """A saved login. With `authority` None the system's root certificates verify the controllers."""

    url: str
    token: AccessToken
    authority: str | None

    def is_for(self, url: str) -> bool:
        """Return whether the token may be sent to a URL: the server must prove to be a controller of the cluster."""
        return url.startswith("https://") and (self.authority is not None or url == self.url)


def api(context: typer.Context) -> Api:
    """Return the controller's API for a command; raise `InvalidValue`, or `Unauthenticated` without a login."""
    opened = _open(context.obj)
    context.call_on_close(opened.close)
    return opened


def _open(given: Given) -> Api:
    login = load_login()
    url = (given.controller or (login.url if login else DEFAULT_URL)).rstrip("/")
    if not url.startswith("https://"):
        return Api(url, Trust(None), None)
    trust = Trust(read_authority(given.ca) if given.ca else login.authority if login else None)
    return Api(url, trust, _token(given, login, url))


def _token(given: Given, login: SavedLogin | None, url: str) -> AccessToken:
    if given.token_file:
        return parse_access_token(read_token(given.token_file, "--token-file"), "--token-file")
    if login is None:
        raise Unauthenticated(f"log in first: overlayctl login {url}")
    if not login.is_for(url):
        raise Unauthenticated(f"the login is for {login.url}: log in at {url}, or give a token with --token-file")
    return login.token


def read_authority(path: Path) -> str:
    """Return the certificate in a file; raise `InvalidValue`."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidValue(f"{path} cannot be read: {error}", field="--ca") from None
    credentials.fingerprint(text, "--ca")
    return text


def login_file() -> Path:
    """Return the path of the saved login."""
    return Path(typer.get_app_dir("overlayd")) / "login.json"


def load_login() -> SavedLogin | None:
    """Return the saved login, None when there is none; raise `InvalidValue` when its file is damaged."""
    path = login_file()
    try:
        fields = Fields(json.loads(path.read_bytes()))
        authority = fields.text("authority") if fields.has("authority") else None
        return SavedLogin(fields.text("url"), parse_access_token(fields.text("token")), authority)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, InvalidValue) as error:
        reason = f"{error.field} {error.detail}" if isinstance(error, InvalidValue) else str(error)
        raise InvalidValue(f"the login is damaged: {reason}; log in again", field=str(path)) from None


def save_login(login: SavedLogin) -> Path:
    """Save a login, readable by its owner only; return the path of the file."""
    path = login_file()
    document = {"url": login.url, "token": login.token.text, "authority": login.authority}
    write_atomically(path, json.dumps(document, indent=2).encode() + b"\n")
    return path
