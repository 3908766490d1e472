"""Running handlers and callbacks, the part that both faces share."""

from __future__ import annotations

import logging
import time
from typing import Any

from ringback._runtime import context as _context
from ringback.core.calls import Execution, PendingCall
from ringback.errors import CallbackError, HandlerError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.limits import Limits

log = logging.getLogger("ringback.sdk")


def run_plain(execution: Execution) -> Any:
    """Runs the handler here and answers with what it gives; an awaitable is given to the caller to finish."""
    # Taken first: a call that is given up from here on loses its payload, and is marked before that.
    arguments = execution.arguments()
    if not execution.begin(time.monotonic()):
        return None
    token = _context.deadline.set(execution.deadline)
    function, tracer = execution.handler.function, _context.tracer
    if tracer is not None:
        function = tracer.handles(execution) or function
    try:
        result = function(*arguments)
        if hasattr(result, "__await__"):
            return result
        _answer(execution, result)
    except Exception as error:
        execution.fail(error)
    except BaseException as error:  # sys.exit(), Ctrl-C: the caller need not wait for what that ends
        execution.refuse(HandlerError(f"the handler ended with {type(error).__name__}"))
        raise
    finally:
        _context.deadline.reset(token)
    return None


async def run_async(execution: Execution, awaitable: Any) -> None:
    """Awaits what a handler gave, and answers with it."""
    _context.deadline.set(execution.deadline)
    try:
        _answer(execution, await awaitable)
    except Exception as error:
        execution.fail(error)
    except BaseException:
        execution.refuse(HandlerError("the handler was cancelled"))
        raise


def _answer(execution: Execution, result: Any) -> None:
    if not execution.handler.takes_cb:
        execution(result)
    elif result is not None:
        log.warning("the handler of %r takes cb: what it returned is ignored, cb(...) answers", execution.key)


def encode_answer(
    encoder: Encoder, execution: Execution, results: tuple[Any, ...], error: CallbackError | None
) -> bytes:
    """Gives the envelope of an answer; one that can't be carried becomes a HANDLER_ERROR that says so."""
    try:
        if error is None:
            return encoder.result(execution.id, results)
        return encoder.error(execution.id, error)
    except CallbackError as problem:
        log.error("the handler of %r: %s", execution.key, problem.message)
        # With limits of its own: this has to leave, however small the endpoint's are.
        return Encoder(Limits()).error(execution.id, HandlerError(problem.message))


def log_duplicate(execution: Execution) -> None:
    log.warning("the handler of %r answered a second time; that answer is ignored", execution.key)


def deliver(call: PendingCall) -> Any:
    """Calls the callback of a call that has its outcome. Gives what it returned."""
    error = call._error
    try:
        if error is None:
            return None if call.callback is None else call.callback(*call._results)
        if call.on_error is not None:
            return call.on_error(error)
        log.warning("the call of %r failed, and it has no on_error: %s", call.key, error)
    except Exception:
        log.exception("the callback of a call of %r failed", call.key)
    return None
