"""How a host joins the cluster: it exchanges a join token for a credential of its own."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import typer

from overlayd.agent.controllers.credential import Credential
from overlayd.agent.controllers.trust import TIMEOUT, Trust, fetch_authority
from overlayd.agent.settings import check_urls
from overlayd.configuration.token_file import read_token
from overlayd.model.errors import InvalidValue, Unavailable
from overlayd.model.ids import HostId
from overlayd.wire import problem
from overlayd.wire.credentials import JoinToken, fingerprint, parse_access_token, parse_join_token
from overlayd.wire.fields import Fields

_TOKEN = "--token-file"  # noqa: S105 - an option's name


def given_token(path: Path | None) -> JoinToken:
    """Return the join token in a file; without a file, prompt for it at a terminal or read standard input.

    Raises `InvalidValue`, which does not contain the token.
    """
    if path is None and sys.stdin.isatty():
        return parse_join_token(typer.prompt("Join token", hide_input=True, err=True).strip(), "token")
    return parse_join_token(read_token(path or Path("-"), _TOKEN), _TOKEN if path else "standard input")


def has_joined(credential: Credential, urls: Sequence[str], token: JoinToken, host: HostId) -> bool:
    """Return whether a host's credential is of the cluster of this token, and valid at the first URL that answers.

    Raises `Unavailable`.
    """
    authority = None if credential.authority is None else fingerprint(credential.authority)
    if authority != token.fingerprint:
        return False
    trust, headers = credential.trust, {"Authorization": f"Bearer {credential.token.text}"}
    failures = []
    with httpx.Client(verify=trust.context(), headers=headers, timeout=TIMEOUT, trust_env=False) as http:
        for url in urls:
            try:
                answer = http.get(f"{url.rstrip('/')}/v1/whoami", extensions=trust.extensions)
            except httpx.TransportError as error:
                failures.append(f"no controller answers at {url}: {error}")
            else:
                return answer.is_success and Fields(json.loads(answer.content)).text("host") == host
    raise Unavailable("; ".join(failures))


def join(urls: Sequence[str], token: JoinToken, host: HostId) -> Credential:
    """Exchange a join token at the first controller that answers.

    The token is sent only to a server that has proved to be a controller. Raises `InvalidValue`, `Unavailable`, or
    whatever the controller answers: `Unauthenticated` for a token that is not valid any more, `AlreadyExists` when
    another machine has joined with this host's id.
    """
    check_urls(urls, "URL")
    for url in urls:
        if not url.startswith("https://"):
            raise InvalidValue(f"{url} is without TLS: nothing is joined there, and a token never travels", field="URL")
    failures = []
    for url in urls:
        try:
            return _join_at(url.rstrip("/"), tuple(urls), token, host)
        except Unavailable as error:
            failures.append(error.detail)
    raise Unavailable("; ".join(failures))


def _join_at(url: str, urls: tuple[str, ...], token: JoinToken, host: HostId) -> Credential:
    trust = Trust(fetch_authority(url, token.fingerprint, _TOKEN) if token.fingerprint else None)
    body = {"token": token.text, "host": host}
    with httpx.Client(verify=trust.context(), timeout=TIMEOUT, trust_env=False) as http:
        try:
            answer = http.post(f"{url}/v1/join", json=body, extensions=trust.extensions)
        except httpx.TransportError as error:
            raise Unavailable(f"no controller answers at {url}: {error}") from error
    if not answer.is_success:
        raise problem.decode(answer.status_code, answer.content)
    try:
        granted = parse_access_token(Fields(json.loads(answer.content)).text("token"))
    except (ValueError, RecursionError, InvalidValue):
        raise Unavailable(f"{url} answered without a credential") from None
    return Credential(urls, granted, trust.authority)
