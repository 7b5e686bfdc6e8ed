"""`overlay-controller init`: from a machine with the package to a controller, in one command.

It writes the settings, starts the service, logs in, and makes a join token. Steps that were done before are left as
they are.
"""

import asyncio
import json
import socket
import ssl
import subprocess
import time
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from controller import settings
from controller.clock import SystemClock
from controller.commands import listen_addresses
from controller.commands.listen_addresses import DEFAULT_PORT, ListenAddress, which
from controller.commands.options import (
    JsonOption,
    TlsNameOption,
    WrittenConfigOption,
)
from controller.commands.overlayctl import Overlayctl, program
from controller.commands.store_options import StoreOptions, takes_store
from controller.settings import DEFAULT_STORE, SCHEMA
from controller.store.etcd.cluster import is_url
from controller.store.opening import StoreChoice, open_store
from controller.store.port import StoreUnavailable
from overlayd.configuration import files, sources
from overlayd.configuration.file_changes import FileChanges, check_environment_file, check_service_file, given
from overlayd.configuration.systemd_service import Service, check_systemd
from overlayd.model.errors import InUse, InvalidValue, OverlayError, Unavailable

SERVICE = Service("overlay-controller.service")

_ANSWER_MAX = 30.0
"""Seconds until a controller that was started answers."""

_PATIENCE = 5.0
"""Seconds for one attempt to reach it."""

_LOOK = 0.2
"""Seconds between two attempts."""

_WRITTEN = ("listen", "store", "tls-name", "etcd-ca", "etcd-cert", "etcd-key", "etcd-user", "etcd-password-file")
"""Settings that are init's options too."""

_OTHER_KINDS = ("insecure", "tls-cert")
"""Settings of controllers that hosts do not recognise by a fingerprint."""


@takes_store
def init(
    context: typer.Context,
    store: StoreOptions,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            "--listen",
            metavar="ADDRESS[:PORT]",
            help=f"An address of this machine at which hosts reach it; port {DEFAULT_PORT} if unset. May be repeated.",
        ),
    ] = None,
    config: WrittenConfigOption = None,
    tls_name: TlsNameOption = None,
    hosts: Annotated[int, typer.Option(metavar="N", help="How many hosts can join with the token.")] = 100,
    ttl: Annotated[str, typer.Option(metavar="TIME", help="How long they can: 90s, 30m, 24h, at most 7d.")] = "1h",
    no_start: Annotated[
        bool, typer.Option("--no-start", help="Leave the service alone: a controller is started some other way.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make this machine a controller: write the settings, start it, log in, and print how hosts join.

    The command for the hosts is alone on standard output, or with --json its parts. What the options say is written
    into the settings; without any, and a second time, the settings stay as they are, and there is a new join token.
    With --store etcd://... several machines become controllers of one cluster.
    """
    try:
        with sources.located(context):
            if not no_start:
                check_systemd("run init with --no-start, and `overlay-controller run` yourself")
                check_service_file(SCHEMA, config)
            _check_kind(context)
            choice = store.choice()
            settings.check_names(tls_name or [])
            _check_store(context, _absolute_store(store.store))
            listens = _listens(context, listen, is_ours=no_start or SERVICE.is_started)
            changes = FileChanges(config or SCHEMA.path, _values(context, listens))
        if not no_start:
            _check_answers(choice)
        changed = changes.write() if no_start else _start(changes)
        _say(f"settings: {changes.path}{'' if changed else ', as they were'}")
        left = _left_token(context, choice)
        offer = _offer(listens, choice, changes.path, left, hosts, ttl, must_answer=not no_start)
    except PermissionError as error:
        typer.echo(f"overlay-controller: {error.filename} can be read by root only: run this as root", err=True)
        raise typer.Exit(1) from None
    except (OverlayError, OSError) as error:
        typer.echo(f"overlay-controller: {error}", err=True)
        raise typer.Exit(1) from None
    if as_json:
        body = {"settings": str(changes.path), "changed": changed, "join": offer and asdict(offer)}
        typer.echo(json.dumps(body, indent=2))
    elif offer:
        _say(f"\nOn every host, within {ttl}, for {hosts} hosts at most:\n")
        typer.echo(f"echo '{offer.token}' | sudo overlayd join {offer.url}")


def _check_kind(context: typer.Context) -> None:
    """Raise `InvalidValue` unless hosts will recognise this controller by the fingerprint in a join token."""
    configured = sources.configured(context)
    for setting in filter(None, map(SCHEMA.find, _OTHER_KINDS)):
        if configured.values.get(setting):
            raise InvalidValue(
                "init is for controllers with the cluster's own certificates; remove it, or set up this one by hand",
                field=str(configured.origins[setting]),
            )


def _check_store(context: typer.Context, store: str) -> None:
    """Raise `InvalidValue` when this machine's controller has another store already: that is another cluster."""
    configured = sources.configured(context)
    setting = SCHEMA.find("store")
    before = configured.values.get(setting) if setting else None
    place = str(configured.origins[setting]) if setting and before else ""
    if before is None and files.exists(Path(DEFAULT_STORE)):
        before, place = DEFAULT_STORE, "by default"
    if given(context, "store") and before not in {None, store}:
        raise InvalidValue(
            f"this machine's controller has its store in {before} ({place}), and another store is another cluster;"
            " to begin again, remove the old settings and the old store first",
            field="--store",
        )


def _listens(context: typer.Context, listen: list[str] | None, *, is_ours: bool) -> list[ListenAddress]:
    """Return where the controller is to listen; raise `InvalidValue` or `InUse` when it cannot.

    `is_ours`: a controller of this machine runs, and may be who listens there.
    """
    if not listen:
        raise listen_addresses.missing("--listen")
    found = [listen_addresses.parse(text, "--listen") for text in listen]
    if not given(context, "listen"):
        return found
    found = listen_addresses.with_loopback(found)
    for place in found:
        with suppress(InUse) if is_ours else nullcontext():
            place.check("--listen")
    return found


def _values(context: typer.Context, listens: list[ListenAddress]) -> dict[str, str | list[str]]:
    """Return the settings to write; raise `InvalidValue` when the service's environment file contradicts one."""
    check_environment_file(SCHEMA, {*_WRITTEN, *_OTHER_KINDS, "admin-token-file"})
    params = {**context.params, "listen": [str(place) for place in listens]}
    settings_given = (setting for setting in map(SCHEMA.find, _WRITTEN) if setting and given(context, setting.key))
    return {
        setting.key: _written(setting.key, setting.converted(params[setting.parameter])) for setting in settings_given
    }


def _written(key: str, value: str | list[str] | Path) -> str | list[str]:
    if key == "store":
        return _absolute_store(str(value))
    return str(value.absolute()) if isinstance(value, Path) else value


def _absolute_store(store: str) -> str:
    """Return a store with an absolute path: the service has another working directory."""
    return store if is_url(store) else str(Path(store).absolute())


def _check_answers(choice: StoreChoice) -> None:
    """Raise `Unavailable` when an etcd does not answer: a controller would wait for it without limit."""
    if isinstance(choice, Path) or settings.is_for_service(choice):
        return

    async def ask() -> None:
        store = open_store(choice, SystemClock())
        try:
            async with asyncio.timeout(_PATIENCE):
                await store.current_revision()
        finally:
            await store.close()

    try:
        asyncio.run(ask())
    except (StoreUnavailable, TimeoutError) as error:
        raise Unavailable(f"{choice} cannot be used, and nothing was changed: {str(error) or 'no answer'}") from None


def _start(changes: FileChanges) -> bool:
    """Start the service with these settings, and return whether they are others than before.

    Raises `Unavailable` when it does not start. What was changed is changed back then, the service included.
    """
    ran = SERVICE.is_started
    with ExitStack() as failing, changes.on_trial() as changed:
        if changed:
            failing.callback(_go_back, changes, ran=ran)
        SERVICE.enable()
        if changed or not SERVICE.is_ready:
            _say(f"service: {SERVICE.unit} is being started")
            SERVICE.restart()
        failing.pop_all()
    _say(f"service: {SERVICE.unit} is enabled and runs")
    return changed


def _go_back(changes: FileChanges, *, ran: bool) -> None:
    """Restore the former settings, and restart the service or stop it if it did not run."""
    _say(f"settings: {changes.path}, as they were")
    with suppress(Unavailable):
        SERVICE.restart() if ran else SERVICE.disable()


@dataclass(frozen=True, slots=True)
class _Offer:
    """What hosts need to join: token and URL."""

    token: str
    url: str


def _offer(
    listens: list[ListenAddress],
    choice: StoreChoice,
    config: Path,
    left: Path,
    hosts: int,
    ttl: str,
    *,
    must_answer: bool,
) -> _Offer | None:
    """Log in and return how hosts join, None while there is no controller yet; raise `Unavailable`."""
    here = listens[0].for_this_machine
    if not _answers(here, _ANSWER_MAX if must_answer else 0):
        if must_answer:
            raise Unavailable(f"no controller answers at {here}: see journalctl --unit {SERVICE.unit}")
        _say("now start it: overlay-controller run. Then run this again: it logs in, and prints how hosts join")
        return None
    administrator = Overlayctl(here.url)
    if not administrator.is_admin() or (files.is_file(left) and not administrator.is_usual()):
        _say(administrator.login(left.with_name("ca.pem"), _admin_token(choice, left, config)))
    token = administrator.make_join_token(hosts, ttl)
    outside = next((each for each in listens if not each.address.is_loopback), listens[0])
    if outside.address.is_unspecified:
        _say(f"\nIf hosts do not reach this machine, {which()}, at the address below, write another one of them there.")
        outside = outside.for_hosts
    return _Offer(token, outside.url)


def _answers(place: ListenAddress, timeout: float) -> bool:
    """Return whether a TLS handshake succeeds within `timeout` seconds: it does once the controller is ready."""
    untrusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    untrusting.check_hostname = False
    untrusting.verify_mode = ssl.CERT_NONE  # nothing is said
    deadline = time.monotonic() + timeout
    while True:
        try:
            with socket.create_connection((str(place.address), place.port), timeout=_PATIENCE) as connected:
                untrusting.wrap_socket(connected).close()
        except OSError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK)
        else:
            return True


def _left_token(context: typer.Context, choice: StoreChoice) -> Path:
    """Return the path of the administrator's token that the first start writes."""
    setting = SCHEMA.find("admin-token-file")
    said = sources.configured(context).values.get(setting) if setting else None
    return Path(said) if isinstance(said, str) else settings.state_file(choice, "admin-token")


def _admin_token(choice: StoreChoice, path: Path, config: Path) -> str:
    """Return the token that the first start left, or a new one; raise `Unavailable`.

    While a controller runs, only an etcd can be written by others.
    """
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        if isinstance(choice, Path):
            raise Unavailable(
                f"there is no login here, and {path} is gone: log in with an admin token (overlayctl login),"
                " then run this again"
            ) from None
    made = subprocess.run(
        [program("overlay-controller"), "admin-token", "--config", str(config)],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise Unavailable(f"no admin token could be made: {made.stderr.strip()}")
    return made.stdout.strip()


def _say(line: str) -> None:
    """Print for people on standard error; standard output is for the command for the hosts."""
    typer.echo(line, err=True)
