"""The start of a controller's process: its settings, its sockets, and what holds for the process as a whole."""

import faulthandler
import os
from collections.abc import Callable
from contextlib import AbstractContextManager

import structlog

from controller import log_output
from controller.clock import SystemClock
from controller.server.listener import raise_descriptor_limit
from controller.serving import service, sockets
from controller.settings import ControllerSettings
from controller.state.keys import Unreadable
from overlayd.model.errors import InvalidValue

_log = structlog.get_logger()


def serve(choose: Callable[[], ControllerSettings], located: AbstractContextManager[None]) -> bool:
    """Run a controller until a signal comes; return whether it ran, and did not have to give up.

    `located` makes an `InvalidValue` name the place of the setting at fault.
    """
    log_output.configure()
    faulthandler.enable()  # the watchdog's SIGABRT leaves in the journal where the process was
    os.umask(0o077)  # the store holds the authority's key
    raise_descriptor_limit()
    try:
        with located:
            chosen = choose()
            bound = [sockets.bind(each) for each in chosen.listen]
    except (InvalidValue, OSError) as refused:
        _log.error("cannot start", reason=str(refused))
        return False
    reasons = service.run_until_stopped(chosen, bound, SystemClock())
    for reason in reasons:
        newer = "cannot go on with this store; was it written by a newer controller?"
        _log.error(newer if isinstance(reason, Unreadable) else "cannot start", reason=str(reason))
    return not reasons
