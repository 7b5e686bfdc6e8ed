"""The options of `overlay-controller`, each with its variable in the environment.

Files are looked at in `controller.settings`, which tells where they were named, and not here: `readable=False`.
"""

from pathlib import Path
from typing import Annotated

import typer

from controller.settings import SCHEMA
from overlayd.configuration import sources

ConfigOption = Annotated[Path | None, sources.option(SCHEMA)]
ByHandConfigOption = Annotated[Path | None, sources.option(SCHEMA, by_hand=True)]
WrittenConfigOption = Annotated[Path | None, sources.option(SCHEMA, writes=True)]
StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="OVERLAY_CONTROLLER_STORE",
        metavar="FILE|URL",
        help="The SQLite file of the store; or an etcd cluster: etcd://HOST:PORT,HOST:PORT…, etcds:// for TLS.",
    ),
]
EtcdCaOption = Annotated[
    Path | None,
    typer.Option(
        "--etcd-ca",
        envvar="OVERLAY_CONTROLLER_ETCD_CA",
        help="The authority that signs etcd's certificates (PEM).",
        readable=False,
    ),
]
EtcdCertificateOption = Annotated[
    Path | None,
    typer.Option(
        "--etcd-cert",
        envvar="OVERLAY_CONTROLLER_ETCD_CERT",
        help="The controller's client certificate for etcd (PEM).",
        readable=False,
    ),
]
EtcdKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--etcd-key",
        envvar="OVERLAY_CONTROLLER_ETCD_KEY",
        help="The private key of that certificate (PEM).",
        readable=False,
    ),
]
EtcdUserOption = Annotated[
    str | None, typer.Option("--etcd-user", envvar="OVERLAY_CONTROLLER_ETCD_USER", help="The user of etcd.")
]
EtcdPasswordOption = Annotated[
    Path | None,
    typer.Option(
        "--etcd-password-file",
        envvar="OVERLAY_CONTROLLER_ETCD_PASSWORD_FILE",
        help="The file that holds the user's password.",
        readable=False,
    ),
]
ListenOption = Annotated[
    list[str],
    typer.Option(
        "--listen",
        envvar="OVERLAY_CONTROLLER_LISTEN",
        help="Where to listen: HOST:PORT, or fd:N for a bound socket that the parent hands over. May be repeated.",
    ),
]

TlsCertOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-cert",
        envvar="OVERLAY_CONTROLLER_TLS_CERT",
        help="A certificate (PEM, with its chain) that the system's roots on hosts and elsewhere vouch for. "
        "Without one the controller issues its own.",
        readable=False,
    ),
]
TlsKeyOption = Annotated[
    Path | None,
    typer.Option(
        "--tls-key", envvar="OVERLAY_CONTROLLER_TLS_KEY", help="The private key of --tls-cert.", readable=False
    ),
]
TlsNameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--tls-name",
        envvar="OVERLAY_CONTROLLER_TLS_NAME",
        help="A further DNS name or address for the controller's own certificate. May be repeated.",
    ),
]
QuarantineOption = Annotated[
    int,
    typer.Option(
        "--quarantine",
        envvar="OVERLAY_CONTROLLER_QUARANTINE",
        help="Seconds for which blocks and reserved addresses that were given back are not given out.",
    ),
]
HistoryDaysOption = Annotated[
    float,
    typer.Option(
        "--history-days", envvar="OVERLAY_CONTROLLER_HISTORY_DAYS", help="Days for which changes stay in the history."
    ),
]
HistoryCountOption = Annotated[
    int,
    typer.Option(
        "--history-count",
        envvar="OVERLAY_CONTROLLER_HISTORY_COUNT",
        help="How many transactions stay in the history; the oldest ones beyond go.",
    ),
]
InsecureOption = Annotated[
    bool,
    typer.Option(
        "--insecure",
        envvar="OVERLAY_CONTROLLER_INSECURE",
        help="Serve without TLS and without authentication: for a demonstration.",
    ),
]
AdminTokenOption = Annotated[
    Path | None,
    typer.Option(
        "--admin-token-file",
        envvar="OVERLAY_CONTROLLER_ADMIN_TOKEN_FILE",
        help="Where the first start leaves the first token; beside the store if unset. "
        "The authority's certificate is beside it, in ca.pem.",
        readable=False,
    ),
]
RecoveryTimeOption = Annotated[
    int,
    typer.Option(
        "--recovery-time",
        envvar="OVERLAY_CONTROLLER_RECOVERY_TIME",
        help="Seconds to wait, after the store was restored, for the hosts' statements; nothing new is given out"
        " until then.",
    ),
]
HostNetworksOption = Annotated[
    int,
    typer.Option(
        "--host-networks",
        envvar="OVERLAY_CONTROLLER_HOST_NETWORKS",
        help="Networks that each host may make by its credential, as for `docker network create`; 0 for none.",
    ),
]
HostBlocksOption = Annotated[
    int,
    typer.Option(
        "--host-blocks",
        envvar="OVERLAY_CONTROLLER_HOST_BLOCKS",
        help="Blocks of one family that a host may hold in one network: a host that was taken over takes no more.",
    ),
]
StateDirectoryOption = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="OVERLAY_CONTROLLER_STATE_DIR",
        help="Where the controller notes which store it has and how far that is, to notice one that was exchanged or"
        " restored. Beside the store if unset;"
        " /var/lib/overlay-controller if that is an etcd.",
        readable=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
