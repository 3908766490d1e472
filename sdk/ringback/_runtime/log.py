"""The logger of the SDK, and the names of endpoints and calls in its lines."""

from __future__ import annotations

import logging
import traceback
from contextlib import suppress

from ringback._runtime.containment import asks_to_exit
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.errors import ProtocolError
from ringback.log_folding import FoldingFilter
from ringback.protocol.frames import FIRST_OWN_LINK, HEADER, HEADER_BYTES, FrameType
from ringback.protocol.player_ids import decode_player_id, encode_player_id

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


# An attribute of this one logger: `logging.setLoggerClass` would change the loggers of the whole program.
log.handle = _handle  # type: ignore[method-assign]

folding = FoldingFilter(log)
"""Folds equal lines: a process may have hundreds of players that all lose their link at once."""


def printable(what: object) -> str:
    """Return a text without characters that a terminal obeys: other programs choose parts of it."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(what))


def caller_of(execution: Execution) -> str:
    """Return who made a call, and its number: `player 7 (call 12)`."""
    route, source = execution.route, execution.source
    if source is not None and route == encode_player_id(source):
        who = f"this server in the name of {source!r}"
    else:
        _, kind, _, link = HEADER.unpack(route[-HEADER_BYTES:])
        if source is None:
            who = f"operator {link}" if 0 < link < FIRST_OWN_LINK else "the server"
        elif kind == FrameType.RELAY:
            who = f"operator {link} in the name of {source!r}"
        else:
            who = f"player {source!r}"
    return f"{who} (call {execution.id})"


def owner_of(call: PendingCall) -> str:
    """Return which endpoint made a call."""
    endpoint = call._endpoint
    return "an endpoint" if endpoint is None else endpoint._log_name


def target_of(call: PendingCall) -> str:
    """Return where a call went, and its number: `to player 7, call 12`."""
    route, where = call.route, ""
    if route and len(route) >= HEADER_BYTES:
        where = "to the server, "
        encoded_id, kind = route[:-HEADER_BYTES], route[1 - HEADER_BYTES]
        if encoded_id and kind == FrameType.DATA:
            with suppress(ProtocolError):  # the route of a call of a server to itself has no header
                where = f"to player {decode_player_id(encoded_id)!r}, "
    return f"{where}call {call.id}"
