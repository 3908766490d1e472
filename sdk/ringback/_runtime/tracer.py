"""The spans of calls. Only `ringback.tracing.enable` imports this module: it needs opentelemetry-api.

The attributes are those of OpenTelemetry's conventions for RPC. Those of our own begin with `ringback.`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, ParamSpec, TypeVar

from opentelemetry import context, propagate, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from ringback._runtime.call_context import CallTracer
from ringback._runtime.containment import asks_to_exit
from ringback._runtime.log import log, owner_of
from ringback._version import __version__
from ringback.core.execution import Execution
from ringback.core.pending_call import PendingCall
from ringback.errors import CallbackError, Cancelled
from ringback.protocol.contexts import bounded
from ringback.protocol.envelopes import MAX_MESSAGE_CHARS
from ringback.protocol.frames import FrameType
from ringback.protocol.player_ids import decode_player_id

P = ParamSpec("P")
R = TypeVar("R")


def _harmless(step: Callable[P, R]) -> Callable[P, R | None]:
    """Log what a step of tracing raises, and let the call go on without a span.

    Samplers, processors and propagators belong to the application.
    """

    @wraps(step)
    def guarded(*arguments: P.args, **keywords: P.kwargs) -> R | None:
        try:
            return step(*arguments, **keywords)
        except BaseException as error:
            if asks_to_exit(error):
                raise
            log.exception("%s: tracing failed; the call goes on", _owner_in(arguments))
            return None

    return guarded


def _owner_in(arguments: tuple[object, ...]) -> str:
    """Return which endpoint a step of tracing is about: one of its arguments knows."""
    for argument in arguments:
        if isinstance(argument, PendingCall):
            return owner_of(argument)
        if isinstance(argument, Execution):
            return argument.shell.log_name
        if isinstance(argument, _TracedShell):
            return argument.log_name
    return "an endpoint"


class Tracer(CallTracer):
    """Makes the spans of all endpoints while tracing is enabled.

    Raises:
        TypeError: the provider is not a `TracerProvider`.
    """

    def __init__(self, provider: TracerProvider | None) -> None:
        if not isinstance(provider, TracerProvider | None):
            raise TypeError(
                f"tracer_provider must be a TracerProvider or None, not {type(provider).__name__}"
            )
        self._tracer = trace.get_tracer("ringback", __version__, provider)

    @_harmless
    def triggered(
        self, call: PendingCall, kind: FrameType | None, encoded_id: bytes
    ) -> dict[str, str] | None:
        """Begin the span of a call; it ends with the call. Return what the call carries, None for nothing."""
        here = context.get_current()
        attributes = _attributes(call.key)
        if encoded_id:
            whom = "ringback.player_id" if kind is FrameType.DATA else "ringback.source"
            attributes[whom] = str(decode_player_id(encoded_id))
        span = self._tracer.start_span(call.key, here, SpanKind.CLIENT, attributes)
        call.add_waiter(lambda: _end(call, span, call._error))
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span, here))
        return bounded(carrier) or None  # the trace precedes baggage, as the propagators do

    @_harmless
    def handles(self, execution: Execution) -> Callable[..., Any]:
        """Begin the span of a handler; it ends with the reply. Return the handler, bound to that context."""
        # The parent context is empty: the current one belongs to whatever made the loop read the call.
        parent = propagate.extract(execution.context or {}, Context())
        attributes = _attributes(execution.key)
        if execution.source is not None:
            attributes["ringback.source"] = str(execution.source)
        span = self._tracer.start_span(execution.key, parent, SpanKind.SERVER, attributes)
        execution.shell = traced = _TracedShell(execution, span)
        if execution.cancelled:  # meanwhile, by the I/O thread, which used the shell from before
            traced.end(_abandoned())
        return partial(_call_in, trace.set_span_in_context(span, parent), execution.handler.function)


class _TracedShell:
    """The shell of one execution with a span. The span ends once."""

    __slots__ = ("_lock", "_shell", "_span")

    def __init__(self, execution: Execution, span: Span) -> None:
        self._shell = execution.shell
        self._span: Span | None = span
        self._lock = threading.Lock()

    @property
    def log_name(self) -> str:
        return self._shell.log_name

    def reply(self, execution: Execution, results: tuple[Any, ...], error: CallbackError | None) -> None:
        try:
            self.end(error)
        finally:  # Ctrl-C does not keep the reply back
            self._shell.reply(execution, results, error)

    def duplicate_reply(self, execution: Execution) -> None:
        self._shell.duplicate_reply(execution)

    def progress(self, execution: Execution, value: object) -> None:
        self._shell.progress(execution, value)

    def late_progress(self, execution: Execution) -> None:
        self._shell.late_progress(execution)

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        with self._lock:
            if self._span is not None:
                _record(self, self._span, error)
        self._shell.handler_failed(execution, error)

    def cancel(self, execution: Execution) -> None:
        self.end(_abandoned())
        self._shell.cancel(execution)

    def end(self, error: CallbackError | None) -> None:
        with self._lock:
            span, self._span = self._span, None
        if span is not None:
            _end(self, span, error)


def _attributes(key: str) -> dict[str, str]:
    return {"rpc.system.name": "ringback", "rpc.method": key}


def _abandoned() -> Cancelled:
    return Cancelled("the caller no longer waits: it cancelled, left, or ran out of time")


@_harmless
def _end(_about: PendingCall | _TracedShell, span: Span, error: CallbackError | None) -> None:
    if error is not None:
        code = error.code_name
        span.set_attributes({"error.type": code, "rpc.response.status_code": code})
        span.set_attribute("ringback.executed", error.executed)
        span.set_status(StatusCode.ERROR, error.message[:MAX_MESSAGE_CHARS])
    span.end()


@_harmless
def _record(_about: _TracedShell, span: Span, error: Exception) -> None:
    span.record_exception(error)


def _run_in(where: Context, function: Callable[..., R], *arguments: object) -> R:
    token = context.attach(where)
    try:
        return function(*arguments)
    finally:
        context.detach(token)


def _call_in(where: Context, function: Callable[..., Any], *arguments: object) -> Any:
    """Call a handler or callback in a context. If it gives an awaitable, await that in the context too."""
    result = _run_in(where, function, *arguments)
    return _await_in(where, result) if hasattr(result, "__await__") else result


async def _await_in(where: Context, awaitable: Any) -> Any:
    context.attach(where)  # of a task that does nothing else
    return await awaitable
