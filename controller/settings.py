"""The settings of a controller at its start, by flags, the environment and a TOML file."""

import os
import re
import ssl
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from controller.past.pruning import DEFAULT as DEFAULT_HISTORY
from controller.past.pruning import HistoryLimits
from controller.rules.defaults import HOST_BLOCKS, HOST_NETWORKS, RECOVERY_TIME
from controller.store.etcd.cluster import Certificates, EtcdLogin, is_url, parse_url
from controller.store.opening import StoreChoice
from overlayd.configuration import files
from overlayd.configuration.schema import Schema, Setting, ValueKind
from overlayd.configuration.systemd_credentials import is_encrypted
from overlayd.model.errors import InvalidValue
from overlayd.model.ids import quoted
from overlayd.service.systemd_notify import ServiceManager

DEFAULT_STORE = "/var/lib/overlay-controller/store.db"
DEFAULT_LISTEN = ["127.0.0.1:7471"]

SCHEMA = Schema(
    "OVERLAY_CONTROLLER",
    Path("/etc/overlayd/controller.toml"),
    (
        Setting("store", ValueKind.STORE),
        Setting("listen", ValueKind.TEXTS),
        Setting("tls-cert", ValueKind.PATH, credential="overlay-controller.tls-cert"),
        Setting("tls-key", ValueKind.PATH, credential="overlay-controller.tls-key"),
        Setting("tls-name", ValueKind.TEXTS),
        Setting("admin-token-file", ValueKind.PATH),
        Setting("state-dir", ValueKind.PATH),
        Setting("insecure", ValueKind.SWITCH),
        Setting("quarantine", ValueKind.INTEGER),
        Setting("recovery-time", ValueKind.INTEGER),
        Setting("host-networks", ValueKind.INTEGER),
        Setting("host-blocks", ValueKind.INTEGER),
        Setting("history-days", ValueKind.NUMBER),
        Setting("history-count", ValueKind.INTEGER),
        Setting("etcd-ca", ValueKind.PATH, credential="overlay-controller.etcd-ca"),
        Setting("etcd-cert", ValueKind.PATH, credential="overlay-controller.etcd-cert"),
        Setting("etcd-key", ValueKind.PATH, credential="overlay-controller.etcd-key"),
        Setting("etcd-user"),
        Setting("etcd-password-file", ValueKind.PATH, credential="overlay-controller.etcd-password"),
    ),
)
"""The settings of `overlay-controller run`."""

QUARANTINE_MAX = 24 * 3600
"""Seconds; a longer one hides that addresses are short."""

RECOVERY_TIME_MAX = 24 * 3600
"""Seconds; during a recovery nothing can be made."""

HOST_NETWORKS_MAX = 1000
"""Networks of one host; a larger bound would bound nothing."""

HOST_BLOCKS_MAX = 1 << 20
"""Blocks of one host in a network; a larger bound would bound nothing."""

HISTORY_DAYS_MAX = 36_500
"""A hundred years."""

_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)
_PORT_MAX = 65535
_DNS_NAME_MAX = 253
_DNS_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*", re.ASCII)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An address to bind. An IPv6 one is written in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as it stands in settings."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class InheritedSocket:
    """A file descriptor that is a bound socket."""

    fd: int

    def __str__(self) -> str:
        """Return it as it stands in settings."""
        return f"fd:{self.fd}"


Listen = TcpAddress | InheritedSocket


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """TLS with a certificate of the cluster's authority, for these names besides those of the machine."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GivenCertificate:
    """TLS with a certificate from elsewhere, for clients that trust their system's roots."""

    certificate: Path
    key: Path

    def load_into(self, context: ssl.SSLContext) -> None:
        """Let a server show it as the files are now; raise `InvalidValue` that names the option."""
        _check_file(self.certificate, "--tls-cert")
        _check_file(self.key, "--tls-key")
        try:
            # Without a password of ours, OpenSSL would ask the terminal for that of an encrypted key.
            context.load_cert_chain(self.certificate, self.key, password="")
        except OSError as error:
            raise InvalidValue(
                f"{self.certificate} and {self.key} cannot be used: {error}", field="--tls-cert"
            ) from None


Tls = OwnCertificate | GivenCertificate


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    """Settings of one controller process; a change needs a restart.

    `tls` None: neither TLS nor tokens. `quarantine` and `recovery_time` are in seconds. `known_store` is the file in
    which the controller notes what it knows of its store. `host_networks` is how many networks each host may make,
    and `host_blocks` how many blocks of a family it may hold in one network.
    """

    store: StoreChoice
    listen: tuple[Listen, ...]
    tls: Tls | None
    admin_token: Path
    known_store: Path
    quarantine: float
    recovery_time: float
    host_networks: int
    host_blocks: int
    history: HistoryLimits
    supervisor: ServiceManager

    @property
    def own_authority(self) -> Path | None:
        """Where the certificate of the cluster's own authority is kept for people, None without one."""
        return self.admin_token.with_name("ca.pem") if isinstance(self.tls, OwnCertificate) else None


def choose(  # noqa: PLR0913 - each is an option
    *,
    store: str,
    listen: list[str],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_name: list[str] | None,
    admin_token_file: Path | None,
    insecure: bool,
    quarantine: int,
    history_days: float,
    history_count: int,
    etcd_ca: Path | None,
    etcd_cert: Path | None,
    etcd_key: Path | None,
    etcd_user: str | None,
    etcd_password_file: Path | None,
    state_dir: Path | None,
    recovery_time: int,
    host_networks: int,
    host_blocks: int,
) -> ControllerSettings:
    """Return the settings that the options give; raise `InvalidValue` that names the option."""
    return load(
        parse_store(store, Certificates(etcd_ca, etcd_cert, etcd_key), etcd_user, etcd_password_file),
        listen,
        load_tls(tls_cert, tls_key, tls_name or [], insecure=insecure),
        admin_token_file,
        quarantine,
        load_history(history_days, history_count),
        state_dir,
        recovery_time,
        host_networks,
        host_blocks,
    )


def load(  # noqa: PLR0913, PLR0917 - each is an option, or what a group of them says
    store: StoreChoice,
    listen: list[str],
    tls: Tls | None,
    admin_token: Path | None,
    quarantine: int,
    history: HistoryLimits = DEFAULT_HISTORY,
    state_dir: Path | None = None,
    recovery_time: int = RECOVERY_TIME,
    host_networks: int = HOST_NETWORKS,
    host_blocks: int = HOST_BLOCKS,
) -> ControllerSettings:
    """Return the settings; raise `InvalidValue` that names the option."""
    if admin_token is not None:
        _check_no_directory(admin_token, "--admin-token-file")
    if not 1 <= quarantine <= QUARANTINE_MAX:
        raise InvalidValue(f"{quarantine} is not in 1..{QUARANTINE_MAX} seconds", field="--quarantine")
    if not 1 <= recovery_time <= RECOVERY_TIME_MAX:
        raise InvalidValue(f"{recovery_time} is not in 1..{RECOVERY_TIME_MAX} seconds", field="--recovery-time")
    if not 0 <= host_networks <= HOST_NETWORKS_MAX:
        raise InvalidValue(f"{host_networks} is not in 0..{HOST_NETWORKS_MAX}", field="--host-networks")
    if not 1 <= host_blocks <= HOST_BLOCKS_MAX:
        raise InvalidValue(f"{host_blocks} is not in 1..{HOST_BLOCKS_MAX}", field="--host-blocks")
    return ControllerSettings(
        store=store,
        listen=tuple(parse_listen(text) for text in listen),
        tls=tls,
        admin_token=admin_token or state_file(store, "admin-token"),
        known_store=known_file(store, state_dir),
        quarantine=quarantine,
        recovery_time=recovery_time,
        host_networks=host_networks,
        host_blocks=host_blocks,
        history=history,
        supervisor=ServiceManager.of(os.environ, os.getpid()),
    )


def state_file(store: StoreChoice, name: str) -> Path:
    """Return where a file of the controller's own stands: beside the store, if that is a file."""
    return (store if isinstance(store, Path) else Path(DEFAULT_STORE)).with_name(name)


def known_file(store: StoreChoice, state_dir: Path | None) -> Path:
    """Return where a controller keeps what it knows of its store: beside it, if that is a file."""
    name = f"{store.name}.known.json" if isinstance(store, Path) else "etcd.known.json"
    return state_dir / name if state_dir else state_file(store, name)


def load_history(days: float, count: int) -> HistoryLimits:
    """Return the limits of the history; raise `InvalidValue` that names the option."""
    if not 0 < days <= HISTORY_DAYS_MAX:
        raise InvalidValue(f"{days:g} is not above 0 and up to {HISTORY_DAYS_MAX} days", field="--history-days")
    if count < 1:
        raise InvalidValue("must be at least 1", field="--history-count")
    return HistoryLimits(days * 86400, count)


def load_tls(cert: Path | None, key: Path | None, names: list[str], *, insecure: bool) -> Tls | None:
    """Return how connections are secured, None for not at all; raise `InvalidValue` that names the option."""
    if insecure:
        if cert or key or names:
            raise InvalidValue("goes with none of --tls-cert, --tls-key and --tls-name", field="--insecure")
        return None
    check_names(names)
    if not (cert or key):
        return OwnCertificate(tuple(names))
    if not (cert and key):
        given, missing = ("--tls-cert", "--tls-key") if cert else ("--tls-key", "--tls-cert")
        raise InvalidValue(f"goes with {missing}", field=given)
    if names:
        raise InvalidValue("is for the controller's own certificate: --tls-cert has names already", field="--tls-name")
    pair = GivenCertificate(cert, key)
    if not (is_encrypted(cert) or is_encrypted(key)):
        pair.load_into(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
    return pair


def check_names(names: Iterable[str]) -> None:
    """Raise `InvalidValue` unless these are addresses or DNS names, such as a certificate can hold."""
    for name in names:
        if not (_address(name) or _is_dns_name(name.removeprefix("*."))):
            raise InvalidValue(f"{quoted(name)} is neither an address nor a DNS name", field="--tls-name")


def parse_store(text: str, certificates: Certificates, user: str | None, password_file: Path | None) -> StoreChoice:
    """Read which store to use; raise `InvalidValue` that names the option."""
    if (user is None) != (password_file is None):
        raise InvalidValue("a user and the file of its password go together", field="--etcd-user")
    for option, file in (
        ("--etcd-ca", certificates.ca),
        ("--etcd-cert", certificates.certificate),
        ("--etcd-key", certificates.key),
        ("--etcd-password-file", password_file),
    ):
        if file is not None:
            _check_file(file, option)
    if is_url(text):
        login = EtcdLogin(user, password_file) if user is not None and password_file is not None else None
        return parse_url(text, certificates, login, "--store")
    if "://" in text:
        raise InvalidValue(f"{text!r} is neither a file nor etcd://HOST:PORT", field="--store")
    if user is not None or certificates != Certificates():
        raise InvalidValue("the --etcd options are for an etcd store", field="--store")
    return _store_file(text)


def is_for_service(store: StoreChoice) -> bool:
    """Return whether only the service can use a store, because its credentials are encrypted."""
    if isinstance(store, Path):
        return False
    tls, login = store.certificates or Certificates(), store.login
    files = (tls.ca, tls.certificate, tls.key, login.password_file if login else None)
    return any(is_encrypted(file) for file in files if file)


def check_for_everybody(store: StoreChoice) -> None:
    """Raise `InvalidValue` when only the service can use a store."""
    if is_for_service(store):
        raise InvalidValue("credentials for it are encrypted, and only the service can use it", field="--store")


def parse_listen(text: str) -> Listen:
    """Read where to listen; raise `InvalidValue`."""
    host, _, number = text.rpartition(":")
    if not (host and _PORT.fullmatch(number) and int(number) <= _PORT_MAX):
        raise InvalidValue(f"{quoted(text)} is neither HOST:PORT nor fd:N", field="--listen")
    if host == "fd":
        return InheritedSocket(int(number))
    inner = host.removeprefix("[").removesuffix("]")
    is_v6 = isinstance(_address(inner), IPv6Address)
    if isinstance(_address(text), IPv6Address) or (is_v6 and host != f"[{inner}]"):
        raise InvalidValue(f"{quoted(text)}: an IPv6 address is written in brackets", field="--listen")
    if not (is_v6 or (inner == host and (_address(host) or _is_dns_name(host)))):
        raise InvalidValue(f"{quoted(host)} is neither an address nor a DNS name", field="--listen")
    return TcpAddress(inner, int(number))


def _store_file(text: str) -> Path:
    """Return the file of a store, which the first start makes; raise `InvalidValue` where it cannot be."""
    if not text:
        raise InvalidValue("names no file", field="--store")
    path = Path(text)
    _check_no_directory(path, "--store")
    with suppress(PermissionError):
        if not files.is_directory(path.parent) and path.parent != Path(DEFAULT_STORE).parent:  # systemd makes that one
            raise InvalidValue(f"there is no directory {path.parent}", field="--store")
    return path


def _check_no_directory(path: Path, field: str) -> None:
    """Raise `InvalidValue` when this is a directory.

    A path that this user may not read passes: the service, which runs as another user, may be able to read it.
    """
    with suppress(PermissionError):
        if files.is_directory(path):
            raise InvalidValue(f"{path} is a directory", field=field)


def _check_file(path: Path, field: str) -> None:
    """Raise `InvalidValue` unless this is a file that can be read."""
    try:
        if not files.is_file(path):
            raise InvalidValue(f"there is no file {path}", field=field)
        path.open("rb").close()
    except OSError as error:
        raise InvalidValue(f"{path} cannot be read: {error.strerror}", field=field) from None


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _is_dns_name(text: str) -> bool:
    """Return whether a resolver may know this name (RFC 1123, section 2.1): what ends in a number means an address."""
    return len(text) <= _DNS_NAME_MAX and bool(_DNS_NAME.fullmatch(text)) and not text.rpartition(".")[2].isdigit()
