"""`ringback bench`: measure calls through a broker."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
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
from ringback_cli.output import print_json
from ringback_cli.progress import progress
from ringback_cli.tables import Column, RowPrinter

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


_COLUMNS = (
    Column("direction", "direction"),
    Column("players", "players", gives_way=2),
    Column("in_flight", "in flight"),
    Column("calls_per_s", "calls/s"),
    Column("p50_us", "p50 us", least=7),
    Column("p99_us", "p99 us", least=7),
    Column("p999_us", "p99.9 us", gives_way=1),
    Column("cpu_server_us", "server CPU us"),
    Column("cpu_players_us", "players CPU us"),
)
_BROKER = Column("cpu_broker_us", "broker CPU us")
"""The column that is there too if the command has started the broker."""


def bench(
    context: typer.Context,
    players: PlayersOption = DEFAULT_PLAYERS,
    backend: BackendOption = DEFAULT_BACKEND,
    direction: Annotated[
        Direction,
        typer.Option(
            help="Which calls are measured: of players to the server (up), of the server to players (down)."
        ),
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
    local: Annotated[
        bool,
        typer.Option("--local", help="Start a broker for the measurement, on free ports, and end it."),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one line of JSON for each measurement.")
    ] = False,
) -> None:
    """Measure calls through a broker, with a server and players that this command starts.

    With --local it starts the broker too. Without it, no other server may be connected to the broker.
    --key-file is for the server.

    Example: ringback bench --local --count 100 --in-flight 64,512
    """
    from ringback_cli.load_processes import can_measure

    if not can_measure():
        raise Failure(Exit.FAILED, "this command needs Linux: it asks for the processor time of processes")
    numbers = _in_flight(in_flight)
    if local:
        _check_local(context)
        key_file = player_key_file = broker_key = None
    with _broker() if local else nullcontext() as started:
        others = {}
        if started is not None:
            others["broker"], players, backend = started
        specs = {
            "server": _spec("server", backend, "--backend", key_file, "--key-file", broker_key),
            "players": _spec(
                "players", players, "--players", player_key_file, "--player-key-file", broker_key
            ),
        }
        for spec in specs.values():
            spec |= {"players": count, "blob_bytes": payload_bytes}
        printer = None
        for way in (Direction.UP, Direction.DOWN) if direction is Direction.BOTH else (direction,):
            for figures in _measure(way, specs, numbers, seconds, others, quiet=as_json):
                row = {"direction": way.value, "players": count, **figures}
                if as_json:
                    print_json({**row, "payload_bytes": payload_bytes, "seconds": seconds})
                else:
                    printer = printer or RowPrinter((*_COLUMNS, *([_BROKER] if local else [])))
                    printer.print_row(_cells(row, local))


def _check_local(context: typer.Context) -> None:
    """Check that no option names another broker.

    Raises:
        Failure: one does. A variable of the environment may, because it is there for other commands too.
    """
    for name in ("players", "backend", "key_file", "player_key_file", "broker_key"):
        given = context.get_parameter_source(name)
        if given is not None and given.name == "COMMANDLINE":
            option = f"--{name.replace('_', '-')}"
            raise Failure(Exit.USAGE, f"{option}: it is for another broker than the one that --local starts")


@contextmanager
def _broker() -> Iterator[tuple[Popen[str], str, str]]:
    """Start a broker, and yield its process, and its addresses for players and for the backend.

    Raises:
        Failure: it does not start.
    """
    from ringback_cli.bench_broker import READY
    from ringback_cli.load_processes import ProcessEnded, line_of

    with _process("ringback_cli.bench_broker") as process:
        try:
            players, backend = line_of(process, READY).groups()
        except ProcessEnded as ended:
            raise _failure(ended) from None
        yield process, players, backend


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
    way: Direction,
    specs: dict[str, dict[str, Any]],
    numbers: list[int],
    seconds: float,
    others: dict[str, Popen[str]],
    quiet: bool,
) -> Iterator[dict[str, Any]]:
    """Start the server and the players. Yield the figures for each number of calls in flight.

    Args:
        others: further processes whose processor time is wanted, by name.

    Raises:
        Failure: one of the processes ended, with its error.
    """
    from ringback_cli.load_processes import ProcessEnded, line_of, measure_calls

    caller = "players" if way is Direction.UP else "server"
    processes: dict[str, Popen[str]] = {}
    with ExitStack() as stack:
        try:
            for role, spec in specs.items():
                asked = json.dumps({**spec, "calls": role == caller})
                processes[role] = stack.enter_context(_process("ringback_cli.load", asked))
                line_of(processes[role], "^ready$")
            for done, number in enumerate(numbers):
                with progress(f"{way.value}, {number} in flight", len(numbers), done=done, quiet=quiet):
                    figures = measure_calls(
                        processes[caller], {**processes, **others}, in_flight=number, seconds=seconds
                    )
                yield {"in_flight": number, **{key: round(value, 1) for key, value in figures.items()}}
        except ProcessEnded as ended:
            raise _failure(ended) from None


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[Popen[str]]:
    """Start a process of a module here. At the end of the block, its standard input ends, and so does it.

    It gets a session of its own, so that Ctrl-C interrupts this process only, which then ends the others. If
    this process is killed, the standard input of the others ends, and so do they.
    """
    from subprocess import PIPE, STDOUT, Popen, TimeoutExpired

    process = Popen(  # noqa: S603 - it runs a module of this package
        [sys.executable, "-P", "-m", module, *arguments],
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


def _cells(row: dict[str, Any], local: bool) -> list[str]:
    roles = ("server", "players", *(["broker"] if local else []))
    return [
        row["direction"],
        str(row["players"]),
        str(row["in_flight"]),
        *(f"{row[key]:.0f}" for key in ("calls_per_s", "p50_us", "p99_us", "p999_us")),
        *(f"{row[f'cpu_{role}_us']:.1f}" for role in roles),
    ]
