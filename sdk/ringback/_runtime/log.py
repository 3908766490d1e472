"""The logger of the SDK."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress

from ringback._runtime.containment import asks_to_exit

log = logging.getLogger("ringback.sdk")


def _handle(record: logging.LogRecord) -> None:
    """Pass a line on. A handler or filter of the program may raise: the work that is logged goes on."""
    try:
        logging.Logger.handle(log, record)
    except BaseException as error:
        if asks_to_exit(error):
            raise
        if logging.raiseExceptions:  # as logging does with the errors of its own handlers
            with suppress(Exception):
                traceback.print_exc()


log.handle = _handle  # type: ignore[method-assign]
