"""OpenTelemetry spans of callers and handlers in one trace, in both faces and both directions."""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import SpanKind, StatusCode, TraceFlags
from support.faces import FACES, Face, HereBroker, LogLines, Seen, Stage
from support.harness import PATIENCE_S, BrokerProcess, Process

import ringback
from ringback import CallbackError, tracing
from ringback.core.calls_in import CallsIn
from ringback.errors import UsageError
from ringback.protocol.envelopes import CALL
from ringback.protocol.limits import MAX_CONTEXT_BYTES

PLACE = trace.get_current_span


class Spans(InMemorySpanExporter):
    """Collects the spans that have ended. Tests wait for them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = Seen()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        self.seen(spans[0])
        return result

    async def wait_for(self, *wanted: str) -> list[ReadableSpan]:
        """Wait for spans by kind and name, like "CLIENT shop:items". Return them in that order."""
        await self.seen.until(lambda items: {named(item) for item in items} >= set(wanted))
        return [next(item for item in self.seen.items if named(item) == name) for name in wanted]


def named(span: ReadableSpan) -> str:
    return f"{span.kind.name} {span.name}"


def provided(sampler: Sampler | None = None) -> tuple[TracerProvider, Spans]:
    provider, spans = TracerProvider(sampler=sampler), Spans()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider, spans


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    """A broker process for all tests here."""
    with BrokerProcess() as process:
        yield process


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Enable tracing, and disable it at the end of the test."""
    provider, spans = provided()
    tracing.enable(provider)
    yield spans
    tracing.disable()
    provider.shutdown()


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the context of each call that comes to this process; `...` for an envelope without one."""
    carried: list[Any] = []
    take = CallsIn.take

    def looked_at(self: CallsIn, peer: Any, envelope: list[Any], *arguments: Any) -> None:
        assert envelope[0] == CALL
        carried.append(envelope[5] if len(envelope) == 6 else ...)
        take(self, peer, envelope, *arguments)

    monkeypatch.setattr(CallsIn, "take", looked_at)
    return carried


def traced(body: Callable[..., Any]) -> Any:
    """Make a test of a coroutine function of a stage and fixtures. It runs once in each face, at a broker
    process."""
    fixtures = list(inspect.signature(body).parameters)[1:]

    def test(face: Face, broker: BrokerProcess, **given: Any) -> None:
        async def run() -> None:
            async with Stage(face, broker) as stage:
                await body(stage, **given)

        asyncio.run(run())

    parameters = [*list(inspect.signature(test).parameters.values())[:2]]
    parameters += [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in fixtures]
    test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    test.__doc__, test.__name__ = body.__doc__, body.__name__
    return test


def joined(child: ReadableSpan, parent: ReadableSpan) -> bool:
    assert child.parent is not None and parent.context is not None and child.context is not None
    return (
        child.parent.span_id == parent.context.span_id and child.context.trace_id == parent.context.trace_id
    )


def failed(span: ReadableSpan) -> tuple[Any, ...]:
    """Return status, error type and `executed` of a span."""
    attributes = span.attributes or {}
    assert attributes.get("rpc.response.status_code") == attributes.get("error.type")
    return span.status.status_code, attributes.get("error.type"), attributes.get("ringback.executed")


# -- one trace for caller and handler


@traced
async def test_a_call_in_each_direction(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()
    server.register_server_callback("shop:items", lambda source, payload: ["apple"])
    player.register_client_callback("local:coords", lambda payload: 1.0)

    assert await stage.result(player.trigger_server_callback("shop:items")) == ["apple"]
    caller, handler = await spans.wait_for("CLIENT shop:items", "SERVER shop:items")
    assert caller.parent is None and joined(handler, caller)
    common = {"rpc.system.name": "ringback", "rpc.method": "shop:items"}
    assert caller.attributes == common and handler.attributes == {**common, "ringback.source": "7"}
    assert failed(caller) == failed(handler) == (StatusCode.UNSET, None, None)
    assert caller.start_time < handler.start_time <= handler.end_time < caller.end_time  # type: ignore[operator]
    assert caller.instrumentation_scope is not None and caller.instrumentation_scope.name == "ringback"

    assert await stage.result(server.trigger_client_callback("local:coords", 7)) == 1.0
    caller, handler = await spans.wait_for("CLIENT local:coords", "SERVER local:coords")
    common["rpc.method"] = "local:coords"
    assert joined(handler, caller)
    assert caller.attributes == {**common, "ringback.player_id": "7"} and handler.attributes == common


@traced
async def test_operators_and_the_server_itself(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()
    operator = await stage.operator()
    server.register_server_callback("a", lambda source, payload: source)
    server.register_server_callback("b", lambda source, payload: source)
    player.register_client_callback("c", lambda payload: 1)
    assert await stage.result(operator.trigger_callback("a", "console")) == "console"
    assert await stage.result(server.trigger_callback("b", "ann")) == "ann"
    provider, own = provided()
    with provider.get_tracer("test").start_as_current_span("all") as root:
        await stage.within(stage.face.all(operator.trigger_all_client_callbacks("c")))
    for key, source in (("a", "console"), ("b", "ann")):
        caller, handler = await spans.wait_for(f"CLIENT {key}", f"SERVER {key}")
        assert joined(handler, caller)
        for span in (caller, handler):
            assert span.attributes is not None and span.attributes["ringback.source"] == source
    caller, handler = await spans.wait_for("CLIENT c", "SERVER c")
    assert joined(handler, caller) and caller.parent == root.get_span_context()
    assert [span.name for span in own.get_finished_spans()] == ["all"]


@traced
async def test_nested_calls_are_one_trace(stage: Stage, spans: Spans) -> None:
    """A player calls the server, which calls that player. Each of the four spans is a child of the last."""
    server, player = await stage.pair()
    server.register_server_callback(
        "shop:near",
        stage.face.handler(lambda source, payload: server.trigger_client_callback("local:coords", source)),
    )
    player.register_client_callback("local:coords", lambda payload: 1.0)
    assert await stage.result(player.trigger_server_callback("shop:near")) == 1.0
    chain = await spans.wait_for(
        *("CLIENT shop:near", "SERVER shop:near", "CLIENT local:coords", "SERVER local:coords")
    )
    assert all(joined(child, parent) for parent, child in pairwise(chain))


@traced
async def test_a_call_in_a_callback_belongs_to_the_span_of_the_first_call(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()
    server.register_server_callback("first", lambda source, payload: None)
    server.register_server_callback("second", lambda source, payload: 1 / 0)
    ended = Seen()

    def then(result: None) -> None:
        player.trigger_server_callback("second", None, on_error=lambda error: ended(PLACE()))

    provider, _ = provided()
    with provider.get_tracer("test").start_as_current_span("root") as root:
        player.trigger_server_callback("first", None, then)
    assert await ended.count(1) == [root]
    for span in await spans.wait_for("CLIENT first", "CLIENT second"):
        assert span.parent == root.get_span_context()


def test_a_call_without_context_begins_a_trace(broker: BrokerProcess, spans: Spans) -> None:
    """The loop reads calls in any context. A call that carries no context begins a trace of its own."""

    async def run() -> None:
        provider, _ = provided()
        async with ringback.aio.Server(broker.backend) as server:
            server.register_server_callback("k", lambda source, payload: None)
            with provider.get_tracer("test").start_as_current_span("other"):
                tracing.disable()
                call = server.trigger_callback("k", 7)
            tracing.enable(provider_of(spans))
            await call
        [handler] = await spans.wait_for("SERVER k")
        assert handler.parent is None

    asyncio.run(run())


def provider_of(spans: Spans) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


async def in_async(source: Any, payload: Any) -> Any:
    await asyncio.sleep(0)
    return PLACE().get_span_context().span_id


def in_plain(source: Any, payload: Any) -> Any:
    return PLACE().get_span_context().span_id


def gives_awaitable(source: Any, payload: Any) -> Any:
    return in_async(source, payload)


@pytest.mark.parametrize("handler", [in_plain, in_async, gives_awaitable])
@pytest.mark.parametrize("in_thread", [False, True])
def test_the_span_is_current_in_every_kind_of_handler(
    face: Face, broker: BrokerProcess, spans: Spans, handler: Any, in_thread: bool
) -> None:
    if handler is in_async and in_thread:
        pytest.skip("a coroutine function is not run in a thread")

    async def run() -> None:
        async with Stage(face, broker) as stage:
            server, player = await stage.pair()
            server.register_server_callback("k", handler, in_thread=in_thread)
            server.register_server_callback("after", lambda source, payload: PLACE().is_recording())
            current = await stage.result(player.trigger_server_callback("k"))
            [span] = await spans.wait_for("SERVER k")
            assert span.context is not None and current == span.context.span_id
            assert PLACE() is trace.INVALID_SPAN, "nothing of it stays in this thread"

    asyncio.run(run())


# -- how spans end


@traced
async def test_a_failing_handler(stage: Stage, spans: Spans, sdk_log: LogLines) -> None:
    server, player = await stage.pair()

    @server.register_server_callback("fails")
    def fails(source: Any, payload: Any) -> None:
        raise ZeroDivisionError("no apples")

    await stage.failure(player.trigger_server_callback("fails"))
    caller, handler = await spans.wait_for("CLIENT fails", "SERVER fails")
    assert failed(caller) == failed(handler) == (StatusCode.ERROR, "HANDLER_ERROR", "yes")
    [event] = handler.events
    assert event.name == "exception" and event.attributes is not None
    assert event.attributes["exception.type"] == "ZeroDivisionError"
    assert event.attributes["exception.message"] == "no apples"
    assert "in fails" in str(event.attributes["exception.stacktrace"])
    assert not caller.events
    await sdk_log.wait_for("the handler of 'fails' failed")


@traced
async def test_an_error_of_the_application(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()

    @server.register_server_callback("shop:buy")
    def buy(source: Any, payload: Any) -> None:
        raise CallbackError("it costs 12", code="TOO_POOR")

    await stage.failure(player.trigger_server_callback("shop:buy"))
    for span in await spans.wait_for("CLIENT shop:buy", "SERVER shop:buy"):
        assert failed(span) == (StatusCode.ERROR, "TOO_POOR", "yes")
        assert span.status.description == "it costs 12" and not span.events


@traced
async def test_a_handler_that_ends_its_thread_or_task(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()

    async def leaves(source: Any, payload: Any) -> None:
        raise asyncio.CancelledError

    server.register_server_callback("leaves", leaves)
    await stage.failure(player.trigger_server_callback("leaves"))
    [handler] = await spans.wait_for("SERVER leaves")
    assert failed(handler) == (StatusCode.ERROR, "HANDLER_ERROR", "yes")


@traced
async def test_a_result_that_cannot_be_encoded(stage: Stage, spans: Spans) -> None:
    """This is found after the handler has ended, so only the caller's span shows it."""
    server, player = await stage.pair()
    server.register_server_callback("odd", lambda source, payload: object())
    await stage.failure(player.trigger_server_callback("odd"))
    caller, handler = await spans.wait_for("CLIENT odd", "SERVER odd")
    assert failed(caller)[1] == "HANDLER_ERROR" and "cannot be encoded" in str(caller.status.description)
    assert failed(handler)[1] is None


@traced
async def test_a_timeout(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()
    server.register_server_callback("never", lambda source, payload, cb: None)
    await stage.failure(player.trigger_server_callback("never", timeout=0.05))
    caller, handler = await spans.wait_for("CLIENT never", "SERVER never")
    assert failed(caller) == (StatusCode.ERROR, "TIMEOUT", "maybe")
    assert failed(handler)[:2] == (StatusCode.ERROR, "CANCELLED")


@traced
async def test_callers_that_are_gone_and_late_replies(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()
    held = Seen()
    server.register_server_callback("cancelled", lambda source, payload, cb: held(cb))
    server.register_server_callback("left", lambda source, payload, cb: held(cb))
    call = player.trigger_server_callback("cancelled")
    await held.count(1)
    call.cancel()
    caller, handler = await spans.wait_for("CLIENT cancelled", "SERVER cancelled")
    assert failed(caller) == (StatusCode.ERROR, "CANCELLED", "maybe")
    assert failed(handler)[:2] == (StatusCode.ERROR, "CANCELLED")

    player.trigger_server_callback("left", on_error=lambda error: None)
    await held.count(2)
    await stage.face.close(player)
    caller, handler = await spans.wait_for("CLIENT left", "SERVER left")
    assert failed(caller)[1] == "CONNECTION_LOST" and failed(handler)[1] == "CANCELLED"
    for cb in held.items:
        cb("late")  # the span has ended: changing it would make OpenTelemetry warn
    assert len(spans.get_finished_spans()) == 4


@traced
async def test_a_call_without_a_handler_has_only_a_span_at_its_caller(stage: Stage, spans: Spans) -> None:
    server, player = await stage.pair()
    server.register_server_callback("closed", lambda source, payload: None, allow=[1])
    for call, code in (
        (player.trigger_server_callback("nobody"), "UNKNOWN_CALLBACK"),
        (player.trigger_server_callback("closed"), "FORBIDDEN"),
        (player.trigger_server_callback("odd", object()), "INVALID_PAYLOAD"),
        (player.trigger_server_callback("late", timeout=0), "TIMEOUT"),
        (server.trigger_client_callback("away", 99), "UNKNOWN_PLAYER"),
    ):
        await stage.failure(call)
        [caller] = await spans.wait_for(f"CLIENT {call.key}")
        assert failed(caller) == (StatusCode.ERROR, code, "no")
    assert {span.kind for span in spans.get_finished_spans()} == {SpanKind.CLIENT}


@traced
async def test_a_later_reply_ends_the_span(stage: Stage, spans: Spans, sdk_log: LogLines) -> None:
    """Another thread calls `cb` long after the handler has returned."""
    server, player = await stage.pair()
    held = Seen()
    server.register_server_callback("later", lambda source, payload, cb: held(cb))
    server.register_server_callback("other", lambda source, payload: None)
    call = player.trigger_server_callback("later")
    [cb] = await held.count(1)
    await stage.result(player.trigger_server_callback("other"))
    await spans.wait_for("CLIENT other", "SERVER other")
    assert len(spans.get_finished_spans()) == 2
    thread = threading.Thread(target=cb, args=("done",))
    thread.start()
    assert await stage.result(call) == "done"
    thread.join()
    caller, handler = await spans.wait_for("CLIENT later", "SERVER later")
    assert joined(handler, caller) and failed(handler) == (StatusCode.UNSET, None, None)
    cb("again")
    await sdk_log.wait_for("'later' replied a second time")


@traced
async def test_a_handler_that_fails_after_its_reply(stage: Stage, spans: Spans, sdk_log: LogLines) -> None:
    server, player = await stage.pair()

    @server.register_server_callback("both")
    def both(source: Any, payload: Any, cb: Any) -> None:
        cb("fine")
        raise ZeroDivisionError

    assert await stage.result(player.trigger_server_callback("both")) == "fine"
    [handler] = await spans.wait_for("SERVER both")
    assert failed(handler)[0] is StatusCode.UNSET and not handler.events
    await sdk_log.wait_for("the handler of 'both' failed")


def test_a_call_that_is_abandoned_as_its_span_begins(here: HereBroker) -> None:
    """The I/O thread abandons the call while a worker makes its span. The span ends all the same."""
    asked, go_on = Seen(), threading.Event()

    def ask() -> None:
        asked(None)
        assert go_on.wait(PATIENCE_S)

    provider, spans = provided(Kinds(ask))
    tracing.enable(provider)

    async def run() -> None:
        async with Stage(FACES[0], here) as stage:
            server, player = await stage.pair()
            server.register_server_callback("k", lambda source, payload, cb: None)
            call = player.trigger_server_callback("k")
            await asked.count(1)
            call.cancel()
            await stage.until(
                player, lambda: server._endpoint.load().running == 0, "the server has given it up"
            )
            go_on.set()
            [handler] = await spans.wait_for("SERVER k")
            assert failed(handler)[1] == "CANCELLED"

    try:
        asyncio.run(run())
    finally:
        go_on.set()
        tracing.disable()


# -- what a call carries


@traced
async def test_without_enable_nothing_is_carried(stage: Stage, contexts: list[Any]) -> None:
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: None)
    with provided()[0].get_tracer("test").start_as_current_span("current"):
        await stage.result(player.trigger_server_callback("k"))
    assert contexts == [...]
    assert ringback._runtime.call_context.tracer is None


class Kinds(Sampler):
    """A sampler that drops the spans of callers only. Its decision about a handler may be delayed."""

    def __init__(self, asked: Callable[[], None] = lambda: None) -> None:
        self.asked = asked

    def should_sample(self, *arguments: Any, **keywords: Any) -> SamplingResult:
        if SpanKind.CLIENT in (*arguments, *keywords.values()):
            return ALWAYS_OFF.should_sample(*arguments, **keywords)
        self.asked()
        return ALWAYS_ON.should_sample(*arguments, **keywords)

    def get_description(self) -> str:
        return "Kinds"


@traced
async def test_a_handler_follows_the_sampling_of_its_caller(stage: Stage, contexts: list[Any]) -> None:
    provider, spans = provided(ParentBased(Kinds()))
    tracing.enable(provider)
    try:
        server, player = await stage.pair()
        server.register_server_callback("k", in_plain)
        current = await stage.result(player.trigger_server_callback("k"))
        _, trace_id, _, flags = contexts[0]["traceparent"].split("-")
        assert not int(flags, 16) & TraceFlags.SAMPLED and int(trace_id, 16) and current
        assert not spans.get_finished_spans()
    finally:
        tracing.disable()


@traced
async def test_without_an_sdk_a_call_carries_nothing(stage: Stage, contexts: list[Any]) -> None:
    tracing.enable(trace.NoOpTracerProvider())
    try:
        server, player = await stage.pair()
        server.register_server_callback("k", in_plain)
        assert await stage.result(player.trigger_server_callback("k")) == 0
        assert contexts == [...]
    finally:
        tracing.disable()


@traced
async def test_baggage_travels_as_far_as_it_fits(stage: Stage, spans: Spans, contexts: list[Any]) -> None:
    server, player = await stage.pair()
    server.register_server_callback("k", lambda source, payload: baggage.get_baggage("shard"))
    for shard, arrives in (("eu-1", "eu-1"), ("x" * MAX_CONTEXT_BYTES, None)):
        token = context.attach(baggage.set_baggage("shard", shard))
        call = player.trigger_server_callback("k")
        context.detach(token)
        assert await stage.result(call) == arrives
    assert contexts[0].keys() == {"traceparent", "baggage"} and contexts[1].keys() == {"traceparent"}


class Broken(SimpleSpanProcessor):
    """Fails in every method."""

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        raise RuntimeError("no start")

    def on_end(self, span: Any) -> None:
        raise RuntimeError("no end")


@traced
async def test_calls_go_on_when_tracing_fails(stage: Stage, sdk_log: LogLines) -> None:
    provider = TracerProvider()
    tracing.enable(provider)
    try:
        server, player = await stage.pair()
        server.register_server_callback("k", lambda source, payload: payload)
        held = Seen()
        server.register_server_callback("held", lambda source, payload, cb: held(cb))
        open_call = player.trigger_server_callback("held")
        [cb] = await held.count(1)
        provider.add_span_processor(Broken(Spans()))
        cb(1)
        assert await stage.result(open_call) == 1
        assert await stage.result(player.trigger_server_callback("k", 2)) == 2
        await sdk_log.wait_for("^server: tracing failed; the call goes on")
    finally:
        tracing.disable()


# -- other processes

PEER = """
import sys
from ringback import {role}, remaining
if sys.argv[2:]:
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from ringback import tracing
    tracing.enable(TracerProvider())

def trace_of(payload, cb):
    span = trace.get_current_span() if sys.argv[2:] else None
    cb(format(span.get_span_context().trace_id, "032x") if span else "opentelemetry" in sys.modules)

with {role}(sys.argv[1]{extra}) as peer:
    {register}
    print("ready")
    {then}
"""
SERVER = PEER.format(
    role="Server",
    extra="",
    register='peer.register_server_callback("trace", lambda source, payload, cb: trace_of(payload, cb))',
    then="sys.stdin.read()",
)
PLAYER = PEER.format(
    role="Player",
    extra=", 8",
    register="",
    then='print(peer.trigger_server_callback("trace").result()); sys.stdin.read()',
)


@pytest.mark.parametrize("there", [True, False], ids=["traced", "untraced"])
def test_a_server_in_another_process(broker: BrokerProcess, spans: Spans, there: bool) -> None:
    options = ["traced"] if there else []
    with Process("-c", SERVER, broker.backend, *options, stdin=-1) as process:
        process.wait_for("ready")
        with ringback.Player(broker.players, 7) as player:
            found = player.trigger_server_callback("trace").result()
        [caller] = asyncio.run(spans.wait_for("CLIENT trace"))
        assert caller.context is not None
        assert found == (format(caller.context.trace_id, "032x") if there else False)


def test_a_player_that_does_not_trace(broker: BrokerProcess, spans: Spans) -> None:
    with ringback.Server(broker.backend) as server:
        server.register_server_callback("trace", in_plain)
        with Process("-c", PLAYER, broker.players, stdin=-1) as process:
            process.wait_for(r"[1-9]\d+")
    [handler] = asyncio.run(spans.wait_for("SERVER trace"))
    assert handler.parent is None


# -- enabling


def test_enabling_requires_a_provider() -> None:
    with pytest.raises(TypeError, match="tracer_provider must be a TracerProvider or None, not str"):
        tracing.enable("otlp")  # type: ignore[arg-type]
    assert ringback._runtime.call_context.tracer is None


def test_enabling_again_and_disabling(broker: BrokerProcess, spans: Spans) -> None:
    provider, others = provided()
    with ringback.Server(broker.backend) as server:
        server.register_server_callback("k", lambda source, payload: None)
        server.trigger_callback("k", 1).result()
        tracing.enable(provider)
        server.trigger_callback("k", 2).result()
        tracing.disable()
        tracing.disable()
        server.trigger_callback("k", 3).result()
    for found, source in ((spans, "1"), (others, "2")):
        pair = asyncio.run(found.wait_for("CLIENT k", "SERVER k"))
        assert [(span.attributes or {})["ringback.source"] for span in pair] == [source] * 2
        assert len(found.get_finished_spans()) == 2


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "ringback._runtime.tracer", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(UsageError, match=r"pip install 'ringback\[tracing\]'"):
        tracing.enable()
