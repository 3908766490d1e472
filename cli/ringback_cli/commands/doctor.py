"""`ringback doctor`: what is wrong on this machine, before a broker or an endpoint finds out."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from enum import StrEnum
from importlib import metadata
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from ringback_cli.connection import Keys, operator, result_of
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import (
    CONNECT_S,
    BrokerKeyOption,
    JSONOption,
    KeyFileOption,
    Patience,
    ShortTimeoutOption,
    check_timeout,
)
from ringback_cli.output import print_json, print_table
from ringback_cli.rows import all_rows
from ringback_cli.settings_options import ConfigOption, settings_of

if TYPE_CHECKING:
    from ringback_broker import BrokerSettings

MIN_LIBZMQ = (4, 3, 2)
"""Older ones have known ways to be made to fail from afar (libzmq's NEWS, 4.3.2 and 4.3.3)."""

CLOCK_UNSYNCHRONIZED = 5
"""What adjtimex(2) gives then: TIME_ERROR."""

SLOW_PING_MS = 50.0


class Verdict(StrEnum):
    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


class Finding(NamedTuple):
    """What was looked at, what was found, and what to do about it, if anything."""

    what: str
    verdict: Verdict
    found: str
    advice: str = ""


def doctor(
    config: ConfigOption = None,
    as_json: JSONOption = False,
    timeout: ShortTimeoutOption = None,
    key_file: KeyFileOption = None,
    broker_key: BrokerKeyOption = None,
) -> None:
    """Look at this machine, a broker's settings and files, and the broker that runs at its address.

    --key-file and --broker-key are an operator's, to ask a broker that wants keys. Exit code 1 if anything
    has failed; a warning is no failure.

    Example: ringback doctor --config /etc/ringback/ringback.toml
    """
    check_timeout(timeout)
    patience = Patience(timeout, CONNECT_S)
    findings = [_python(), _libzmq(), *_packages(), _clock()]
    try:
        loaded = settings_of(config, {})
    except Failure as failure:
        findings.append(Finding("settings", Verdict.FAILED, failure.message, "ringback config check FILE"))
    else:
        where = "defaults" if loaded.path is None else loaded.path
        findings.append(Finding("settings", Verdict.OK, where))
        findings += [_descriptors(loaded.settings), *_files(loaded.settings)]
        findings.append(_broker(loaded.settings, patience, Keys(key_file, broker_key)))
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_table(["what", "verdict", "found", "advice"], [list(finding) for finding in findings])
    if any(finding.verdict is Verdict.FAILED for finding in findings):
        raise typer.Exit(Exit.FAILED)


def _python() -> Finding:
    return Finding("python", Verdict.OK, f"{sys.version.split()[0]} at {sys.executable}")


def _libzmq() -> Finding:
    import zmq

    found = f"{zmq.zmq_version()}, pyzmq {zmq.__version__}"
    if zmq.zmq_version_info() < MIN_LIBZMQ:
        oldest = ".".join(map(str, MIN_LIBZMQ))
        return Finding("libzmq", Verdict.FAILED, found, f"{oldest} or newer: pip install --upgrade pyzmq")
    if not zmq.has("curve"):
        advice = "without keys all is well; for keys, a pyzmq from PyPI has CURVE"
        return Finding("libzmq", Verdict.WARNING, f"{found}, without CURVE", advice)
    return Finding("libzmq", Verdict.OK, f"{found}, with CURVE")


def _packages() -> Iterator[Finding]:
    yield Finding("ringback", Verdict.OK, metadata.version("ringback"))
    for extra, names in {
        "tokens": ("pyjwt", "cryptography"),
        "metrics": ("prometheus-client", "uvicorn"),
        "tracing": ("opentelemetry-api",),
    }.items():
        missing = [name for name in names if not _version(name)]
        found = ", ".join(f"{name} {_version(name) or 'is not installed'}" for name in names)
        advice = f"if you want it: pip install 'ringback[{extra}]'" if missing else ""
        yield Finding(f"extra {extra}", Verdict.OK, found, advice)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _clock() -> Finding:
    """Tokens have times in them. The kernel knows whether something keeps its clock right."""
    import ctypes

    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    buffer = ctypes.create_string_buffer(1024)  # struct timex, all 0: only ask
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except AttributeError:  # a libc without it
        state = -1
    if state == CLOCK_UNSYNCHRONIZED:
        advice = "tokens need clocks that agree to seconds: run chrony or systemd-timesyncd"
        return Finding("clock", Verdict.WARNING, f"{now}, and nothing keeps it right", advice)
    return Finding("clock", Verdict.OK, now if state < 0 else f"{now}, kept right")


def _descriptors(settings: BrokerSettings) -> Finding:
    import resource

    from ringback_broker.daemon.descriptors import RESERVED, connections

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = sum(connections(settings.max_players, settings.max_operators)) + RESERVED
    if limit != resource.RLIM_INFINITY and limit < wanted:
        advice = f"ulimit -n {wanted}, LimitNOFILE={wanted}, or a lower max_players"
        return Finding(
            "descriptors", Verdict.WARNING, f"{limit}; {settings.max_players} players take more", advice
        )
    return Finding("descriptors", Verdict.OK, f"{limit}; {settings.max_players} players take {wanted}")


def _files(settings: BrokerSettings) -> Iterator[Finding]:
    from ringback_broker.daemon.key_files import AccessFile, load_broker_key
    from ringback_broker.settings.schema import InvalidSetting

    if settings.key_file is None or settings.access is None:
        yield Finding("keys", Verdict.OK, "none: whoever reaches the broker may join", "docs/security.md")
        return
    for name, path, look in (
        ("key_file", settings.key_file, load_broker_key),
        ("access", settings.access, AccessFile),
    ):
        try:
            made: Any = look(path)
        except InvalidSetting as error:
            yield Finding(name, Verdict.FAILED, error.reason, "ringback keys --help")
        else:
            keys = f", {len(made.list)} keys" if isinstance(made, AccessFile) else ""
            yield Finding(name, Verdict.OK, f"{path}{keys}")


def _broker(settings: BrokerSettings, patience: Patience, keys: Keys) -> Finding:
    """Asks who is at the address where the broker would listen."""
    from ringback.errors import BrokerUnreachable, CallbackError, Refused
    from ringback.protocol.addresses import dialled

    address = dialled(settings.backend)
    if address.endswith(":0"):
        return Finding("broker", Verdict.OK, f"{address} is any port: not asked")
    try:
        with operator(address, patience, keys) as endpoint:
            begun_at = time.perf_counter()
            result_of(endpoint.ping(timeout=patience.left_s()))
            took_ms = 1000 * (time.perf_counter() - begun_at)
            there = len(all_rows(endpoint, "players", patience))
    except BrokerUnreachable as error:
        return Finding("broker", Verdict.WARNING, str(error), "ringback broker")
    except (CallbackError, Refused) as error:
        return Finding("broker", Verdict.FAILED, f"{address}: {error}", "--key-file, --broker-key")
    found = f"{address} answers in {took_ms:.1f} ms, {there} players"
    if took_ms > SLOW_PING_MS:
        return Finding("broker", Verdict.WARNING, found, "slow: ringback ping --count 100, ringback bench")
    return Finding("broker", Verdict.OK, found)
