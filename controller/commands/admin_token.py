"""`overlay-controller admin-token`: another admin token, when all are lost."""

import asyncio
import json
import os
import secrets

import typer

from controller import settings
from controller.commands.options import ByHandConfigOption, JsonOption
from controller.commands.store_options import StoreOptions, takes_store
from controller.store.opening import StoreChoice, open_store
from overlayd.configuration import sources
from overlayd.model.errors import InvalidValue


@takes_store
def admin_token(
    context: typer.Context,
    store: StoreOptions,
    _config: ByHandConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make another admin token and print it, when all are lost. No controller may have the store's file open."""
    import structlog

    from controller import log_output
    from controller.store.embedded import StoreRefused

    log_output.configure()
    os.umask(0o077)
    try:
        with sources.located(context):
            choice = store.choice()
            settings.check_for_everybody(choice)
        token = asyncio.run(_made_admin(choice))
        typer.echo(json.dumps({"token": token}) if as_json else token)
    except (InvalidValue, StoreRefused, OSError) as refused:
        structlog.get_logger().error("no token made", reason=str(refused))
        raise typer.Exit(1) from None


async def _made_admin(choice: StoreChoice) -> str:
    """Make an admin token; raises `StoreRefused`."""
    from controller.clock import SystemClock
    from controller.identity.roles import Role
    from controller.journal.actor import BY_CONTROLLER
    from controller.lifecycle.bootstrap import ADMIN
    from controller.overlay import Overlay

    clock = SystemClock()
    store = open_store(choice, clock)
    overlay = Overlay(store, clock, secrets.token_hex(4))
    async with asyncio.TaskGroup() as tasks:
        background = [tasks.create_task(store.run(), name="store")]
        await overlay.load()
        background.append(tasks.create_task(overlay.run(), name="overlay"))
        made = await overlay.tokens.create(BY_CONTROLLER, ADMIN, Role.ADMIN, None)
        for task in background:
            task.cancel()
    await store.close()
    return made.result.token.text
