"""Whether a starting host belongs to the cluster: it has joined, or systemd passes it a credential."""

from collections.abc import Sequence
from pathlib import Path

import structlog

from overlayd.agent.commands.join import join
from overlayd.agent.controllers import credential
from overlayd.agent.controllers.credential import Credential
from overlayd.agent.controllers.host_identity import load_identity
from overlayd.configuration import sources
from overlayd.configuration.token_file import read_token
from overlayd.wire.credentials import parse_join_token

JOIN_TOKEN = "overlayd.join-token"  # noqa: S105 - a name
"""The systemd credential that holds a join token: with it, and the URL of a controller, a host joins by itself."""

CREDENTIAL = "overlayd.credential"
"""The systemd credential that holds a `credential.json`, for hosts that keep none themselves."""

_log = structlog.get_logger(__name__)


def known(state_dir: Path) -> Credential | None:
    """Return this host's credential, None when it has not joined; raise `InvalidValue`."""
    handed = sources.credential(CREDENTIAL)
    return credential.load(state_dir) or (credential.read(handed) if handed else None)


def of_host(state_dir: Path, controllers: Sequence[str]) -> Credential | None:
    """Return what `known` does, after joining at these controllers if systemd passes a join token.

    Raises as `join` does.
    """
    found, token = known(state_dir), sources.credential(JOIN_TOKEN)
    if found or token is None:
        return found
    host = load_identity(state_dir).id
    made = join(controllers, parse_join_token(read_token(token, JOIN_TOKEN), JOIN_TOKEN), host)
    credential.save(state_dir, made)
    _log.info("joined", host=host)
    return made
