"""The command `overlay-controller`."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

import typer

from controller import settings
from controller.commands import init, store_commands
from controller.commands.admin_token import admin_token
from controller.commands.options import (
    AdminTokenOption,
    ConfigOption,
    HistoryCountOption,
    HistoryDaysOption,
    HostBlocksOption,
    HostNetworksOption,
    InsecureOption,
    ListenOption,
    QuarantineOption,
    RecoveryTimeOption,
    StateDirectoryOption,
    TlsCertOption,
    TlsKeyOption,
    TlsNameOption,
)
from controller.commands.store_options import StoreOptions, takes_store
from controller.past.pruning import DEFAULT as DEFAULT_HISTORY
from controller.rules.defaults import HOST_BLOCKS, HOST_NETWORKS, QUARANTINE, RECOVERY_TIME
from overlayd.configuration import sources
from overlayd.configuration.commands import commands as config_commands
from overlayd.configuration.help_pages import PlainGroup

app = typer.Typer(
    cls=PlainGroup,
    help="The controller of a VXLAN overlay network for container hosts.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # the journal is no terminal
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - as typer calls it
    if wanted:
        from importlib import metadata

        typer.echo(metadata.version("overlayd"))
        raise typer.Exit


@app.callback()
def _options(  # typer's way to options beside commands
    _version: Annotated[  # noqa: FBT002
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    pass


@app.command(cls=sources.ConfiguredCommand)
@takes_store
def run(
    context: typer.Context,
    store: StoreOptions,
    _config: ConfigOption = None,
    listen: ListenOption = settings.DEFAULT_LISTEN,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    tls_name: TlsNameOption = None,
    admin_token_file: AdminTokenOption = None,
    insecure: InsecureOption = False,  # noqa: FBT002 - typer's flags
    quarantine: QuarantineOption = QUARANTINE,
    history_days: HistoryDaysOption = DEFAULT_HISTORY.age / 86400,
    history_count: HistoryCountOption = DEFAULT_HISTORY.count,
    state_dir: StateDirectoryOption = None,
    recovery_time: RecoveryTimeOption = RECOVERY_TIME,
    host_networks: HostNetworksOption = HOST_NETWORKS,
    host_blocks: HostBlocksOption = HOST_BLOCKS,
) -> None:
    """Run the controller until SIGTERM or SIGINT."""
    from controller.serving.start import serve

    choose = partial(
        settings.choose,
        **store.values(),
        listen=listen,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_name=tls_name,
        admin_token_file=admin_token_file,
        insecure=insecure,
        quarantine=quarantine,
        history_days=history_days,
        history_count=history_count,
        state_dir=state_dir,
        recovery_time=recovery_time,
        host_networks=host_networks,
        host_blocks=host_blocks,
    )
    if not serve(choose, sources.located(context)):
        raise typer.Exit(1)


def _check(values: Mapping[str, Any]) -> None:
    """Check settings as `run` does; raise `InvalidValue`."""
    settings.choose(**values)


app.command("init", cls=sources.ConfiguredCommand)(init.init)
app.command("backup", cls=sources.ConfiguredCommand)(store_commands.backup)
app.command("restore", cls=sources.ConfiguredCommand)(store_commands.restore)
app.command("migrate", cls=sources.ConfiguredCommand)(store_commands.migrate)
app.command("new-cluster", cls=sources.ConfiguredCommand)(store_commands.new_cluster)
app.command("admin-token", cls=sources.ConfiguredCommand)(admin_token)
app.add_typer(config_commands(settings.SCHEMA, _check), name="config")


def main() -> None:
    """Run the command line."""
    app()
