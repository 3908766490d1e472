"""Spans of OpenTelemetry for calls: one at the caller and one at the handler, joined to a trace.

It needs the API of OpenTelemetry: `pip install 'ringback[tracing]'`. Where the spans go is up to the
application (`opentelemetry-sdk` and an exporter), and so is what of its context travels with a call
(`opentelemetry.propagate`).

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.enable(provider)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringback._runtime import call_context
from ringback.errors import UsageError

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

__all__ = ["disable", "enable"]

INSTALL = "tracing needs opentelemetry-api: pip install 'ringback[tracing]'"


def enable(tracer_provider: TracerProvider | None = None) -> None:
    """Has all calls of this process traced from now on; a second time, by another provider.

    A call gets a span of the kind CLIENT, from triggering until it has ended. A handler gets one of the kind
    SERVER, until it has answered or nobody waits any more.

    Args:
        tracer_provider: what makes the spans; None: the global one. Its processors are called on the I/O
            thread too, in asyncio on the loop, so they must not block: take a `BatchSpanProcessor`.

    Raises:
        TypeError: it is no `TracerProvider`.
        UsageError: opentelemetry-api is not installed.
    """
    try:
        from ringback._runtime.tracer import Tracer
    except ImportError as error:
        raise UsageError(INSTALL) from error
    call_context.tracer = Tracer(tracer_provider)


def disable() -> None:
    """Has no further calls traced. The spans of those that are in flight end with them."""
    call_context.tracer = None
