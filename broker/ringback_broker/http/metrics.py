"""The names and values of the broker's metrics for Prometheus, made from a snapshot.

The number of series is bounded: `callback` is the only label whose values peers choose, and at most 500
callbacks have a value of their own. There is no label for players.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from itertools import accumulate

from prometheus_client.core import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from ringback.protocol.reports import LATENCY_BOUNDS_S, OTHERS_NAME
from ringback_broker.operations.counters import BrokerCounters
from ringback_broker.operations.figures import Callback, Totals
from ringback_broker.operations.snapshot import LAG_BOUNDS_S, Snapshot


def _by_prefix(prefix: str) -> dict[str, str]:
    """Return the counters whose names have a prefix, by the rest of their names in capitals."""
    names = (field.name for field in fields(BrokerCounters))
    return {name.removeprefix(prefix).upper(): name for name in names if name.startswith(prefix)}


_LABELLED = (
    (
        *("frames", "Frames delivered.", "direction"),
        {"up": "frames_up", "down": "frames_down", "relayed": "frames_relayed"},
    ),
    ("bytes", "Bytes of frames delivered.", "direction", {"up": "bytes_up", "down": "bytes_down"}),
    (
        "bounced",
        "Frames that could not be delivered, and went back to their sender.",
        "reason",
        _by_prefix("bounced_"),
    ),
    ("sessions_refused", "Peers that the broker refused.", "code", _by_prefix("refused_")),
    (
        *("sessions_ended_by_broker", "Sessions that the broker itself ended.", "reason"),
        {
            name.removeprefix("sessions_"): name
            for name in (
                *("sessions_expired", "sessions_too_slow", "sessions_too_fast"),
                *("sessions_revoked", "sessions_replaced", "sessions_kicked"),
            )
        },
    ),
    (
        "server_changes",
        "How often another server began to act. hand_over: on an order; takeover: the one before was gone.",
        "reason",
        {"hand_over": "hand_overs", "takeover": "takeovers"},
    ),
    (
        "connections_refused",
        "Connections that closed before they had a session. no_key: the key is not in the access list;"
        " no_hello: no HELLO came; too_many: there were too many connections.",
        "reason",
        {"no_key": "handshakes_refused", "no_hello": "handshakes_failed", "too_many": "connections_refused"},
    ),
    (
        "discarded",
        "What the broker did not pass on: malformed messages, violations of the protocol, messages of"
        " strangers, and bounces and refusals without a receiver.",
        "reason",
        {
            "malformed": "malformed",
            "unfinished": "messages_unfinished",
            "violation": "violations",
            "stranger": "stranger_messages",
            "no_receiver": "dropped",
        },
    ),
)
"""Metrics made from BrokerCounters: name, text, label, and the counter for each value of the label."""


class BrokerCollector(Collector):
    """Collects the metrics of the latest snapshot.

    Args:
        look: returns the snapshot.
        version: of ringback.
    """

    def __init__(self, look: Callable[[], Snapshot], version: str) -> None:
        self._look = look
        self._version = version

    def collect(self) -> Iterator[Metric]:
        snapshot = self._look()
        counters = snapshot.counters
        yield _gauge("info", "The version of the broker.", "version", {self._version: 1})
        yield _gauge("sessions", "Peers that are connected.", "role", snapshot.sessions)
        others = {"standby": snapshot.standbys, "retiring": snapshot.retiring}
        yield _gauge(
            "other_servers", "Servers that stand by, or have handed over and finish.", "duty", others
        )
        yield _gauge(
            "connections_without_session", "Connections that have no session.", value=snapshot.strangers
        )
        yield _counter("sessions_begun", "Sessions that began.", value=counters["sessions_begun"])
        yield _counter(
            "sessions_ended", "Sessions that ended, for any reason.", value=counters["sessions_ended"]
        )
        yield _counter(
            "joins_delayed",
            "How often a player of a crowd had to come again before it joined. It is no error.",
            value=counters["joins_delayed"],
        )
        for name, text, label, values in _LABELLED:
            yield _counter(name, text, label, {value: counters[own] for value, own in values.items()})
        yield _gauge(
            "waiting_frames",
            "Control frames and bounces that wait for room in a queue.",
            value=snapshot.waiting_frames,
        )
        yield _gauge(
            "full_windows",
            "Peers whose window is full, because they do not read fast enough.",
            "side",
            snapshot.full_windows,
        )
        if snapshot.realm is not None:
            view = snapshot.realm
            yield _gauge(
                "realm_member",
                "1 while the node can act for its realm, else 0.",
                value=int(snapshot.in_realm),
            )
            yield _gauge(
                "realm_seat",
                "1 while the server of the realm acts at this node, or may.",
                value=int(view.has_seat),
            )
            nodes = {"alive": view.others, "linked": view.linked}
            yield _gauge(
                "realm_nodes", "Other nodes: that live, and that are linked to this one.", "state", nodes
            )
        yield _gauge("draining", "1 while the broker drains, else 0.", value=int(snapshot.draining))
        counts, sum_s = snapshot.lags
        bounds = [*map(str, LAG_BOUNDS_S), "+Inf"]
        yield from _callbacks(snapshot.callbacks)
        yield HistogramMetricFamily(
            "ringback_loop_lag_seconds",
            "How late the ticks of the loop were. There are four ticks a second.",
            buckets=list(zip(bounds, map(float, accumulate(counts)), strict=True)),
            sum_value=sum_s,
        )


def _callbacks(callbacks: Mapping[Callback, Totals]) -> Iterator[Metric]:
    """Return the metrics of callbacks, as endpoints report them."""
    labels = ["callback", "side"]
    ended = CounterMetricFamily("ringback_calls", "Calls that have ended.", labels=[*labels, "code"])
    running = GaugeMetricFamily("ringback_calls_in_flight", "Calls that wait for a reply.", labels=labels)
    text = (
        "How long calls with results took: from the beginning of the handler to its reply for callbacks of"
        " the server, and there and back for those of players."
    )
    took = HistogramMetricFamily("ringback_call_latency_seconds", text, labels=labels)
    bounds = [*map(str, LATENCY_BOUNDS_S), "+Inf"]
    for (key, side), found in callbacks.items():
        names = [key or OTHERS_NAME, side.value]
        for code, count in {"OK": sum(found.answered), **found.failed}.items():
            ended.add_metric([*names, code], count)
        running.add_metric(names, found.in_flight)
        counts = map(float, accumulate(found.answered))
        took.add_metric(names, list(zip(bounds, counts, strict=True)), found.took_s)
    return iter((ended, running, took))


def _gauge(
    name: str, text: str, label: str = "", values: Mapping[str, int] | None = None, value: int = 0
) -> Metric:
    return _filled(
        GaugeMetricFamily(f"ringback_{name}", text, labels=[label] if label else []), values, value
    )


def _counter(
    name: str, text: str, label: str = "", values: Mapping[str, int] | None = None, value: int = 0
) -> Metric:
    return _filled(
        CounterMetricFamily(f"ringback_{name}", text, labels=[label] if label else []), values, value
    )


def _filled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, int] | None, value: int
) -> Metric:
    pairs: Iterable[tuple[list[str], int]] = [([], value)]
    if values is not None:
        pairs = (([name], number) for name, number in values.items())
    for labels, number in pairs:
        family.add_metric(labels, number)
    return family


def registry(look: Callable[[], Snapshot], version: str) -> CollectorRegistry:
    """Return a registry of the broker's metrics, and of those of its process."""
    made = CollectorRegistry()
    made.register(BrokerCollector(look, version))
    ProcessCollector(registry=made)
    return made
