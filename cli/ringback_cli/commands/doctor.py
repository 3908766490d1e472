"""`ringback doctor`: find what is wrong on this machine, before a broker or an endpoint does."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING, Annotated

import typer

from ringback_cli.connection import Connection, connects
from ringback_cli.exits import Exit, Failure
from ringback_cli.findings import Finding, Verdict, missing_file
from ringback_cli.nats_findings import nats_findings
from ringback_cli.options import JSONOption, parse_addresses
from ringback_cli.output import print_json
from ringback_cli.rows import all_rows
from ringback_cli.settings_options import SettingsOptions, takes_some_settings
from ringback_cli.tables import Column, Kind, by_word, print_table

if TYPE_CHECKING:
    from ringback_broker import BrokerSettings

MIN_LIBZMQ = (4, 3, 2)
"""Older versions can be crashed over the network (libzmq's NEWS, 4.3.2 and 4.3.3)."""

CLOCK_UNSYNCHRONIZED = 5
"""The return value TIME_ERROR of adjtimex(2)."""

SLOW_PING_MS = 50.0

KEYS = "ringback keys init makes all files with keys"
_FILES = {
    "key_file": KEYS,
    "access": KEYS,
    "dashboard_key_file": KEYS,
    "http_token_file": "write a long random text into it",
    "nats_credentials": "docs/scale.md",
    "nats_ca": "docs/scale.md",
    "nats_cert": "docs/scale.md",
    "nats_key": "docs/scale.md",
}
"""The settings that name a file which must be there, and what to do if it is not."""

_COLUMNS = (
    Column("what", "what", Kind.WORD),
    Column(
        "verdict",
        "verdict",
        Kind.WORD,
        colour=by_word(ok="green", warning="yellow", missing="magenta", failed="red"),
    ),
    Column("found", "found", Kind.PROSE),
    Column("advice", "advice", Kind.PROSE),
)


@connects(backend=False)
@takes_some_settings("cluster", "realm", "node", "nats_credentials", "nats_ca", "nats_cert", "nats_key")
def doctor(
    options: SettingsOptions,
    connection: Connection,
    backend: Annotated[
        str | None,
        typer.Option(
            "--backend",
            metavar="ADDR,...",
            help="Ask these brokers, each by itself. [default: the one that the settings are for]",
        ),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Check this machine, the settings and files of a broker, and the broker that runs at its address. If the
    broker is a node of a realm, check NATS too.

    --key-file and --broker-key are those of an operator, for a broker with an access list. The exit code is
    1 if a check failed. A warning is not a failure.

    Example: ringback doctor --config /etc/ringback/ringback.toml
    """
    # Addresses of several brokers are for commands and endpoints. A broker listens at one.
    lists = [name for name in ("RINGBACK_PLAYERS", "RINGBACK_BACKEND") if "," in os.environ.get(name, "")]
    if backend is not None:
        brokers = parse_addresses(backend, "--backend")
    elif "RINGBACK_BACKEND" in lists:
        brokers = parse_addresses(os.environ["RINGBACK_BACKEND"], "RINGBACK_BACKEND")
    else:
        brokers = None
    findings = [_python(), _libzmq(), *_packages(), _clock()]
    own = connection.key_file and missing_file("--key-file", connection.key_file, KEYS)
    findings += [own] if own else []
    try:
        loaded = options.load(without=lists)
    except Failure as failure:
        findings.append(_wrong_settings(options.config, failure))
    else:
        where = "defaults" if loaded.path is None else str(loaded.path)
        if lists:
            where += f"; without {' and '.join(lists)}: a list of brokers is for endpoints"
        findings.append(Finding("settings", Verdict.OK, where))
        findings += [_descriptors(loaded.settings), *_files(loaded.settings)]
        known = {finding.what for finding in findings}  # a missing file of NATS is one of the files
        nats = nats_findings(loaded.settings, connection.left_s())
        findings += (finding for finding in nats if finding.what not in known)
        findings += _brokers(loaded.settings, brokers, connection)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_table(_COLUMNS, [list(finding[:4]) for finding in findings])
    if any(finding.is_problem for finding in findings):
        raise typer.Exit(Exit.FAILED)


def _wrong_settings(config: str | None, failure: Failure) -> Finding:
    missing = config and missing_file("settings", config, "correct --config, or RINGBACK_CONFIG")
    return missing or Finding("settings", Verdict.FAILED, failure.message, "ringback config check FILE")


def _python() -> Finding:
    return Finding("python", Verdict.OK, f"{sys.version.split()[0]} at {sys.executable}")


def _libzmq() -> Finding:
    import zmq

    from ringback.extras import pip_command

    found = f"{zmq.zmq_version()}, pyzmq {zmq.__version__}"
    if zmq.zmq_version_info() < MIN_LIBZMQ:
        oldest = ".".join(map(str, MIN_LIBZMQ))
        advice = pip_command("--force-reinstall", "--only-binary", "pyzmq", "pyzmq")
        return Finding("libzmq", Verdict.FAILED, found, f"{oldest} or newer: {advice}")
    if not zmq.has("curve"):
        advice = "encryption needs CURVE; pyzmq from PyPI has it"
        return Finding("libzmq", Verdict.WARNING, f"{found}, without CURVE", advice)
    return Finding("libzmq", Verdict.OK, f"{found}, with CURVE")


def _packages() -> Iterator[Finding]:
    from ringback.extras import install_command

    yield Finding("ringback", Verdict.OK, metadata.version("ringback"))
    for extra, names in {
        "broker": ("rich", "tomlkit"),
        "tokens": ("pyjwt", "cryptography"),
        "metrics": ("prometheus-client", "uvicorn"),
        "cluster": ("nats-py",),
        "typed": ("msgspec",),
        "tracing": ("opentelemetry-api",),
    }.items():
        missing = [name for name in names if not _version(name)]
        found = ", ".join(f"{name} {_version(name) or 'is not installed'}" for name in names)
        advice = f"if you want it: {install_command(extra)}" if missing else ""
        yield Finding(f"extra {extra}", Verdict.MISSING if missing else Verdict.OK, found, advice)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _clock() -> Finding:
    """Check that the clock is synchronized, because tokens expire. The kernel knows."""
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    state = _clock_state()
    if state == CLOCK_UNSYNCHRONIZED:
        advice = "tokens need clocks that agree to seconds: run chrony or systemd-timesyncd"
        return Finding("clock", Verdict.WARNING, f"{now}, not synchronized", advice)
    return Finding("clock", Verdict.OK, now if state < 0 else f"{now}, synchronized")


def _clock_state() -> int:
    """Return what adjtimex(2) returns, and -1 where the system does not have it."""
    import ctypes

    buffer = ctypes.create_string_buffer(1024)  # struct timex, all zeros: a read-only request
    try:
        state: int = ctypes.CDLL(None).adjtimex(buffer)
    except (AttributeError, TypeError):  # another libc; Windows
        return -1
    return state


def _descriptors(settings: BrokerSettings) -> Finding:
    try:
        import resource
    except ModuleNotFoundError:
        found = "this system has no such limit"
        return Finding("descriptors", Verdict.OK, found, "to run a broker: Linux, a container, or WSL 2")
    from ringback_broker.daemon.descriptors import RESERVED, connections

    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    needed = sum(connections(settings.max_players, settings.max_operators)) + RESERVED
    found = f"{limit} are allowed; {settings.max_players} players need {needed}"
    if limit != resource.RLIM_INFINITY and limit < needed:
        advice = f"ulimit -n {needed}, LimitNOFILE={needed}, or a lower max_players"
        return Finding("descriptors", Verdict.WARNING, found, advice)
    return Finding("descriptors", Verdict.OK, found)


def _files(settings: BrokerSettings) -> Iterator[Finding]:
    """Check the files that settings name."""
    missing = {
        name: finding
        for name, advice in _FILES.items()
        if (path := getattr(settings, name)) is not None
        and (finding := missing_file(name, path, advice)) is not None
    }
    yield from missing.values()
    if settings.key_file is None or settings.access is None:
        advice = "docs/security.md; ringback keys init"
        yield Finding("keys", Verdict.OK, "none: everybody who reaches the broker may join", advice)
        return
    if "key_file" not in missing:
        yield _key_file(settings.key_file)
    if "access" not in missing:
        yield _access(settings.access)


def _key_file(path: str) -> Finding:
    from ringback_broker.daemon.key_files import load_broker_key
    from ringback_broker.settings.schema import InvalidSetting

    try:
        load_broker_key(path)
    except InvalidSetting as error:
        return Finding("key_file", Verdict.FAILED, error.reason, "ringback keys --help")
    return Finding("key_file", Verdict.OK, path)


def _access(path: str) -> Finding:
    from ringback_broker.daemon.key_files import AccessFile
    from ringback_broker.settings.schema import InvalidSetting

    try:
        count = len(AccessFile(path).list)
    except InvalidSetting as error:
        return Finding("access", Verdict.FAILED, error.reason, "ringback keys --help")
    return Finding("access", Verdict.OK, f"{path}, {count} keys")


def _brokers(
    settings: BrokerSettings, brokers: list[str] | None, connection: Connection
) -> Iterator[Finding]:
    """Ask the brokers at these addresses; None: the one where these settings make it listen."""
    from ringback.protocol.addresses import dialled

    for address in brokers or [dialled(settings.backend)]:
        if address.endswith(":0"):
            yield Finding("broker", Verdict.OK, f"not asked, because {address} means any port")
        else:
            yield _broker(address, connection)


def _broker(address: str, connection: Connection) -> Finding:
    from ringback.errors import BrokerUnreachable, CallbackError, Refused

    connection = replace(connection, backend=address)
    try:
        with connection.operator() as operator:
            begun_at = time.perf_counter()
            operator.ping(timeout=connection.left_s()).result()
            took_ms = 1000 * (time.perf_counter() - begun_at)
            players = len(all_rows(operator, "players", connection))
            link_address = operator.link_address or address
    except BrokerUnreachable as error:
        return Finding("broker", Verdict.WARNING, str(error), "ringback broker")
    except (CallbackError, Refused) as error:
        return Finding("broker", Verdict.FAILED, f"{address}: {error}", "--key-file, --broker-key")
    except Failure as failure:  # the key file is missing, or is not an operator's
        return Finding("broker", Verdict.FAILED, f"{address}: not asked: {failure.message}", KEYS)
    where = address if link_address == address else f"{address} ({link_address})"
    found = f"{where} answers in {took_ms:.1f} ms, {players} players"
    if took_ms > SLOW_PING_MS:
        return Finding("broker", Verdict.WARNING, found, "slow: ringback ping --count 100, ringback bench")
    return Finding("broker", Verdict.OK, found)
