"""Waits of the blocking face that keep from running what has to end them.

A wait on the thread of an event loop blocks that loop, and the handlers of `ringback.aio` on it. A wait in
the handler of a serial callback keeps the next call of its source waiting.

Only what is certain is an error. A handler with `cb` may have another thread reply, so it may wait, and the
log says what for. The reply of a handler on the loop may be on its way.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

from ringback._runtime.base_shell import ShellBase
from ringback._runtime.lifetimes import started
from ringback._runtime.log import caller_of, log
from ringback.core.pending_call import PendingCall
from ringback.errors import UsageError
from ringback.protocol.frames import HEADER_BYTES, FrameType, Role
from ringback.protocol.player_ids import encode_player_id

_DATA, _RELAY = bytes((FrameType.DATA,)), bytes((FrameType.RELAY,))


def waits_for_itself(caller: ShellBase, calls: Iterable[PendingCall]) -> UsageError | None:
    """Return the error of a wait that keeps the handlers of all these calls from replying.

    Only their deadlines, a cancel or the end of a link may end these calls then. None: it is another wait, or
    that is not certain.
    """
    pending = [call for call in calls if not call._done]
    if not pending:
        return None
    return _needs_loop(pending, caller) or _needs_turn(pending, caller)


def _needs_loop(pending: list[PendingCall], caller: ShellBase) -> UsageError | None:
    asyncio = sys.modules.get("asyncio")  # not imported here: few programs of the blocking face need it
    if asyncio is None or asyncio._get_running_loop() is None:
        return None
    blocked = [
        shell for shell in started.running() if isinstance(shell, ShellBase) and shell.needs_this_thread()
    ]
    needed = None
    for call in pending:
        needed = next((shell for shell in blocked if _handles(call, caller, shell)), None)
        if needed is None:
            return None
    if needed is None:
        return None
    return UsageError(
        f"this wait blocks the event loop that has to run the handler of {pending[-1].key!r}:"
        f" {needed.lifetime.name()} is on the loop of this thread. Nothing is lost, the call goes on: await"
        " asyncio.wrap_future(call.future()), or trigger with ringback.aio"
    )


def _needs_turn(pending: list[PendingCall], caller: ShellBase) -> UsageError | None:
    execution = caller.current_execution()
    if execution is None or execution.replied:
        return None
    if not all(caller.endpoint.waits_behind(call, execution) for call in pending):
        return None
    if execution.handler.takes_cb:
        text = "%s: the handler of %r for %s waits for a call of %r that runs once this handler has replied:"
        text += " the callback is serial. If no other thread calls its cb, the call ends with TIMEOUT"
        key = execution.key
        log.warning(text, caller.log_name, key, caller_of(execution), key, extra={"kind": key})
        return None
    return UsageError(
        f"the callback {execution.key!r} is serial, so this call for {execution.source!r} runs once this"
        " handler has replied, which waits for it: call the function itself, or trigger without waiting"
    )


def _handles(call: PendingCall, caller: ShellBase, shell: ShellBase) -> bool:
    """Return whether it is an endpoint on the loop of this thread that has yet to reply to a call."""
    route, own, other = call.route or b"", caller.endpoint, shell.endpoint
    kind = route[1 - HEADER_BYTES :][:1]
    if not route or not own.shares_broker(other) or not other.has_to_reply(call):
        return False
    if shell.role is Role.PLAYER:
        assert other.player_id is not None  # it has a link
        known = caller.role is Role.OPERATOR or other.player_id in own.players
        return known and kind == _DATA and route[:-HEADER_BYTES] == encode_player_id(other.player_id)
    if shell.role is not Role.SERVER or not other.acting:
        return False
    if caller.role is Role.PLAYER:
        return other.knows_player(own)
    return kind == _RELAY
