"""OpenTelemetry spans for calls: one at the caller and one at the handler, in the same trace.

It needs the OpenTelemetry API, which the extra `tracing` installs. The application decides where the spans go
(`opentelemetry-sdk` and an exporter), and which context travels with a call (`opentelemetry.propagate`).

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    tracing.enable(provider)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ringback._runtime import call_context
from ringback.errors import UsageError
from ringback.extras import install_command

if TYPE_CHECKING:
    from opentelemetry.trace import TracerProvider

__all__ = ["disable", "enable"]

INSTALL = f"tracing needs opentelemetry-api: {install_command('tracing')}"


def enable(tracer_provider: TracerProvider | None = None) -> None:
    """Trace all calls of this process from now on. A second call replaces the provider.

    A call has a CLIENT span, from triggering until it ends. A handler has a SERVER span, until it replies or
    its caller no longer waits.

    Args:
        tracer_provider: makes the spans; None for the global provider. Its processors also run on the I/O
            thread (asyncio: on the loop), so they must not block: use a `BatchSpanProcessor`.

    Raises:
        TypeError: the provider is not a `TracerProvider`.
        UsageError: opentelemetry-api is not installed.
    """
    try:
        from ringback._runtime.tracer import Tracer
    except ImportError as error:
        raise UsageError(INSTALL) from error
    call_context.tracer = Tracer(tracer_provider)


def disable() -> None:
    """Stop tracing new calls. The spans of calls in flight end with their calls."""
    call_context.tracer = None
