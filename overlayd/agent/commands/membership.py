"""Whether a starting host belongs to the cluster: it has joined, or systemd passes it a credential."""

from collections.abc import Sequence
from pathlib import Path

import structlog

from overlayd.agent.commands.join import join
from overlayd.agent.controllers import credential
from overlayd.agent.controllers.credential import Credential, load_identity
from overlayd.configuration.token_file import read_token
from overlayd.wire.credentials import parse_join_token

_log = structlog.get_logger(__name__)


def of_host(state_dir: Path, controllers: Sequence[str]) -> Credential | None:
    """Return this host's credential, after joining at these controllers if systemd passes a join token.

    Raises as `join` does.
    """
    found, token = credential.known(state_dir), credential.join_token()
    if found or token is None:
        return found
    host = load_identity(state_dir).id
    made = join(controllers, parse_join_token(read_token(token, credential.JOIN_TOKEN), credential.JOIN_TOKEN), host)
    credential.save(state_dir, made)
    _log.info("joined", host=host)
    return made
