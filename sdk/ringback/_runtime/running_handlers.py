"""How both faces run a handler or a callback, and encode a reply."""

from __future__ import annotations

import time
from typing import Any

from ringback._runtime import call_context
from ringback._runtime.log import caller_of, log, owner_of, printable, target_of
from ringback.core.execution import Execution
from ringback.core.outbox import executed_in
from ringback.core.pending_call import PendingCall
from ringback.errors import CallbackError, Code, HandlerError, fresh, reason_of
from ringback.protocol.envelopes import OWN, Encoder


def run_plain(execution: Execution) -> Any:
    """Run the handler and reply with what it returns. Return an awaitable, if it gave one, to be awaited.

    The shell runs this in a context of its own: what it sets stays there.
    """
    arguments = execution.begin(time.monotonic)
    if arguments is None:
        return None
    call_context.deadline.set(execution.deadline)
    function, tracer = execution.handler.function, call_context.tracer
    try:
        if tracer is not None:
            function = tracer.handles(execution) or function
        result = function(*arguments)
        if hasattr(result, "__await__"):
            return result
        _reply(execution, result)
    except Exception as error:
        execution.fail(error)
    except BaseException as error:  # sys.exit() or Ctrl-C: the caller must not wait for its timeout
        execution.refuse(HandlerError(_ending(error)))
        raise
    return None


async def run_async(execution: Execution, awaitable: Any) -> None:
    """Await what a handler gave, and reply with its result. The context has the deadline already."""
    try:
        _reply(execution, await awaitable)
    except Exception as error:
        execution.fail(error)
    except BaseException as error:
        execution.refuse(HandlerError(_ending(error)))
        raise


def _ending(error: BaseException) -> str:
    kind = type(error).__name__
    return "the handler was cancelled" if kind == "CancelledError" else f"the handler ended with {kind}"


def _reply(execution: Execution, result: Any) -> None:
    if not execution.handler.takes_cb:
        execution(result)
    elif result is not None:
        text = "%s: the handler of %r takes cb: its return value is ignored, cb(...) replies; it ran for %s"
        who = execution.shell.log_name, execution.key, caller_of(execution)
        log.warning(text, *who, extra={"kind": execution.key})


def encode_reply(
    encoder: Encoder, execution: Execution, results: tuple[Any, ...], error: CallbackError | None
) -> tuple[bytes, CallbackError | None]:
    """Return the envelope of a reply, and the error in it; None if it has results.

    A reply that cannot be encoded becomes a HANDLER_ERROR that says why. This never raises.
    """
    try:
        if error is None:
            return encoder.result(execution.id, results), None
        if isinstance(error.code, Code):
            encoder = Encoder(OWN)  # a refusal leaves, however low the limits of the endpoint are
        return encoder.error(execution.id, error), error
    except BaseException as problem:  # a value's own code may raise anything while it is encoded
        reason = problem.message if isinstance(problem, CallbackError) else reason_of(problem)
        text = "%s: the reply of the handler of %r for %s cannot be sent: %s"
        who = execution.shell.log_name, execution.key, caller_of(execution)
        log.error(text, *who, printable(reason), extra={"kind": execution.key})
        failure = HandlerError(reason, executed=executed_in(error))
        return Encoder(OWN).error(execution.id, failure), failure


def deliver(call: PendingCall) -> Any:
    """Run the callback of a call that has ended. Return what the callback returned."""
    if call.typed:
        call.convert()
    error = call._error
    try:
        if error is None:
            return None if call.callback is None else call.callback(*call._results)
        if call.on_error is not None:
            return call.on_error(fresh(error))
        text = "%s: the call of %r failed, and it has no on_error: %s (%s)"
        details = owner_of(call), call.key, printable(error), target_of(call)
        log.warning(text, *details, extra={"kind": (call.key, error.code)})
    except Exception as failure:
        callback_failed(call, failure)
    return None


def callback_failed(call: PendingCall, failure: BaseException) -> None:
    """Log what the callback of a call raised."""
    text = "%s: the callback of a call of %r failed (%s)"
    extra = {"kind": (call.key, type(failure))}
    log.error(text, owner_of(call), call.key, target_of(call), exc_info=failure, extra=extra)
