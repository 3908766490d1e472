"""`ringback bench`: measure calls through a broker."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ringback_cli import options
from ringback_cli.connection import wrong_key_file
from ringback_cli.exits import Exit, Failure
from ringback_cli.options import (
    DEFAULT_BACKEND,
    DEFAULT_PLAYERS,
    BackendOption,
    BrokerKeyOption,
    KeyFileOption,
    PlayersOption,
    parse_addresses,
    whole_number,
)
from ringback_cli.output import print_json, print_line
from ringback_cli.progress import progress

if TYPE_CHECKING:
    from subprocess import Popen

    from ringback_cli.load_processes import ProcessEnded

MOST_PLAYERS = 1000
MOST_IN_FLIGHT = 100_000
MOST_BYTES = 1_000_000
"""With the rest of a call, this is still below the limit of a frame."""

LONGEST_S = 3600.0
LEAVING_S = 2.0
"""How long a process may take to leave the broker, in seconds. After that it is killed."""


class Direction(StrEnum):
    """Who calls: the players (up) or the server (down)."""

    UP = "up"
    DOWN = "down"
    BOTH = "both"


_COLUMNS = {
    "direction": 9,
    "players": 9,
    "in flight": 11,
    "calls/s": 9,
    "p50 us": 9,
    "p99 us": 9,
    "p99.9 us": 10,
    "server CPU us": 15,
    "players CPU us": 16,
}
"""The heads of the table, and the width of each column."""


def bench(
    players: PlayersOption = DEFAULT_PLAYERS,
    backend: BackendOption = DEFAULT_BACKEND,
    direction: Annotated[
        Direction,
        typer.Option(help="Measure calls of players to the server (up), of the server to players (down)."),
    ] = Direction.BOTH,
    count: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=whole_number("--count", 1, MOST_PLAYERS),
            help=f"The number of players, at most {MOST_PLAYERS}.",
        ),
    ] = 1,
    in_flight: Annotated[
        str,
        typer.Option(metavar="N,N,...", help="The number of calls in flight; one measurement for each N."),
    ] = "1,64,512",
    payload_bytes: Annotated[
        int,
        typer.Option(
            metavar="N",
            parser=whole_number("--payload-bytes", 0, MOST_BYTES),
            help="The size of payloads and results in bytes, at most 1000000; 0: objects of about 30 and 100 "
            "bytes.",
        ),
    ] = 0,
    seconds: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            parser=options.seconds(
                "--seconds", f"above 0 and at most {LONGEST_S:g}", lambda given: 0 < given <= LONGEST_S
            ),
            help="The duration of each measurement in seconds.",
        ),
    ] = 3.0,
    key_file: KeyFileOption = None,
    player_key_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The key file of the players, for the IDs bench-0, bench-1 and so on. [default: none]",
        ),
    ] = None,
    broker_key: BrokerKeyOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON for each measurement.")
    ] = False,
) -> None:
    """Measure calls through a running broker, with a server and players that this command starts.

    No other server may be connected to the broker. --key-file is for the server.

    Example: ringback bench --direction down --count 100 --in-flight 64,512
    """
    from ringback_cli.load_processes import can_measure

    if not can_measure():
        raise Failure(Exit.FAILED, "this command needs Linux: it asks for the processor time of processes")
    numbers = _in_flight(in_flight)
    specs = {
        "server": _spec("server", backend, "--backend", key_file, "--key-file", broker_key),
        "players": _spec("players", players, "--players", player_key_file, "--player-key-file", broker_key),
    }
    for spec in specs.values():
        spec |= {"players": count, "blob_bytes": payload_bytes}
    headed = as_json
    for way in (Direction.UP, Direction.DOWN) if direction is Direction.BOTH else (direction,):
        for figures in _measure(way, specs, numbers, seconds, quiet=as_json):
            row = {"direction": way.value, "players": count, **figures}
            if not headed:
                print_line("".join(f"{name:>{width}}" for name, width in _COLUMNS.items()))
                headed = True
            if as_json:
                print_json({**row, "payload_bytes": payload_bytes, "seconds": seconds})
            else:
                print_line(_table_row(row))


def _in_flight(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= MOST_IN_FLIGHT for number in numbers):
        raise Failure(
            Exit.USAGE,
            f"--in-flight: the numbers must be from 1 to {MOST_IN_FLIGHT}, as in 1,64, not {text!r}",
        )
    return numbers


def _spec(
    role: str, text: str, option: str, key_file: str | None, key_option: str, broker_key: str | None
) -> dict[str, Any]:
    """Return the specification of a process for `ringback_cli.load`.

    Raises:
        Failure: the address, the key file or the broker's key is wrong.
    """
    from ringback import Player, Server

    addresses = parse_addresses(text, option)
    settings: dict[str, Any] = {"key_file": key_file, "broker_key": broker_key}
    try:
        (Server if role == "server" else Player)(addresses, **settings)
    except ValueError as error:
        raise wrong_key_file(error, key_option) from None
    return {"role": role, "address": addresses, "settings": settings}


def _measure(
    way: Direction, specs: dict[str, dict[str, Any]], numbers: list[int], seconds: float, quiet: bool
) -> Iterator[dict[str, Any]]:
    """Start the server and the players. Yield the figures for each number of calls in flight.

    Raises:
        Failure: one of the two processes ended, with its error.
    """
    from ringback_cli.load_processes import ProcessEnded, line_of, measure_calls

    caller = "players" if way is Direction.UP else "server"
    processes: dict[str, Popen[str]] = {}
    with ExitStack() as stack:
        try:
            for role, spec in specs.items():
                processes[role] = stack.enter_context(_process({**spec, "calls": role == caller}))
                line_of(processes[role], "^ready$")
            for done, number in enumerate(numbers):
                with progress(f"{way.value}, {number} in flight", len(numbers), done=done, quiet=quiet):
                    figures = measure_calls(processes[caller], processes, in_flight=number, seconds=seconds)
                yield {"in_flight": number, **{key: round(value, 1) for key, value in figures.items()}}
        except ProcessEnded as ended:
            raise _failure(ended) from None


@contextmanager
def _process(spec: dict[str, Any]) -> Iterator[Popen[str]]:
    """Start a process of `ringback_cli.load`. At the end of the block it leaves the broker and ends.

    It gets a session of its own, so that Ctrl-C interrupts this process only, which then ends the others. If
    this process is killed, the standard input of the others ends, and so do they.
    """
    from subprocess import PIPE, STDOUT, Popen, TimeoutExpired

    process = Popen(  # noqa: S603 - it runs a module of this package
        [sys.executable, "-P", "-m", "ringback_cli.load", json.dumps(spec)],
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process
    except BaseException:
        process.send_signal(signal.SIGINT)
        raise
    finally:
        try:
            with suppress(BrokenPipeError):
                process.stdin.close()
            with suppress(TimeoutExpired):
                process.wait(LEAVING_S)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


def _failure(ended: ProcessEnded) -> Failure:
    """Return the failure of a process that has ended: its last lines are an error as commands print it."""
    for line in reversed(ended.lines):
        code, colon, message = line.partition(": ")
        if colon and code.isupper() and ended.code in set(Exit):  # not `data:` and `executed:`
            return Failure(Exit(ended.code), message, code=code)
    line = ended.lines[-1] if ended.lines else "it printed nothing"
    return Failure(Exit.FAILED, f"a process of the measurement ended with exit code {ended.code}: {line}")


def _table_row(row: dict[str, Any]) -> str:
    cells = [
        row["direction"],
        str(row["players"]),
        str(row["in_flight"]),
        *(f"{row[key]:.0f}" for key in ("calls_per_s", "p50_us", "p99_us", "p999_us")),
        *(f"{row[f'cpu_{role}_us']:.1f}" for role in ("server", "players")),
    ]
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, _COLUMNS.values(), strict=True))
