"""How a command connects to the broker: `@connects()` gives it the options and a `Connection`."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Literal, ParamSpec, TypeVar

import typer

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import (
    DEFAULT_BACKEND,
    DEFAULT_PLAYERS,
    BackendOption,
    BrokerKeyOption,
    KeyFileOption,
    PlayersOption,
    parse_addresses,
    seconds,
)
from ringback_cli.signatures import expand_first_parameter, option

if TYPE_CHECKING:
    from ringback import Operator, Player, PlayerID

Own = ParamSpec("Own")
Endpoint = TypeVar("Endpoint", "Operator", "Player")

CONNECT_S = 5.0
"""How long connecting may take, in seconds, without `--timeout`."""

MAX_CONNECT_S = 1e8
"""The SDK takes a finite number of seconds."""

MAX_ITEMS = 1024 * 1024
"""No reply has more items, because a frame has at most 1 MiB. Endpoints protect themselves from hostile
players by tighter limits, but a person who looks at a reply wants all of it."""


class TimeLimit:
    """The time that a command may take.

    Args:
        timeout_s: the value of `--timeout`, above 0, inf for no limit; None: the option was not given.
        default_s: the limit without that option.
    """

    def __init__(self, timeout_s: float | None, default_s: float = CONNECT_S) -> None:
        self._given = timeout_s is not None
        self._limit_s = default_s if timeout_s is None else timeout_s
        self._connect_s = CONNECT_S if timeout_s is None else timeout_s
        self.restart()

    def restart(self) -> None:
        """Begin to count from now on."""
        self._ends_at = time.monotonic() + self._limit_s

    def next_round(self) -> bool:
        """Return whether a command that goes on until Ctrl-C may ask the broker once more.

        `--timeout` limits all of it. Without the option, each round may take the default.
        """
        if not self._given:
            self.restart()
        return self.left_s() != 0

    @property
    def is_over(self) -> bool:
        """Whether the time of `--timeout` is over."""
        return self._given and self.left_s() == 0

    def has_ended(self, error: Exception) -> bool:
        """Return whether a call failed because the time of `--timeout` is over."""
        from ringback import CallTimeout

        return isinstance(error, CallTimeout) and self.is_over

    @contextmanager
    def ends_quietly(self) -> Iterator[None]:
        """Leave the block without an error when the time of `--timeout` is over.

        It is for commands that go on until Ctrl-C. They end then, also while they wait for an answer.
        """
        try:
            yield
        except Exception as error:
            if not self.has_ended(error):
                raise

    def pause_s(self, seconds: float) -> float:
        """Return how long to wait for the next round: a time, but not over the limit of `--timeout`."""
        left_s = self.left_s() if self._given else None
        return max(0.0, seconds if left_s is None else min(seconds, left_s))

    def connecting_s(self) -> float:
        """Return how long connecting may take: a finite number above 0, as the SDK needs it."""
        left_s = self.left_s()
        return min(self._connect_s, MAX_CONNECT_S if left_s is None else max(left_s, 0.001), MAX_CONNECT_S)

    def left_s(self) -> float | None:
        """Return the seconds that are left, at least 0; None: there is no limit."""
        if math.isinf(self._ends_at):
            return None
        return max(0.0, self._ends_at - time.monotonic())


@dataclass(frozen=True)
class Connection:
    """Where a command connects to, as whom, and how long it may take.

    Attributes:
        backend: the broker's address for operators, or several with commas between them.
        players: the broker's address for players, likewise.
        key_file, broker_key: what a broker with an access list asks for; None elsewhere.
        time_limit: starts when the command connects.
    """

    time_limit: TimeLimit
    backend: str = DEFAULT_BACKEND
    key_file: str | None = None
    broker_key: str | None = None
    players: str = DEFAULT_PLAYERS

    def operator(self) -> Operator:
        """Return an operator for a `with` block, which connects it. The time limit starts now.

        Raises:
            Failure: the address, the key file or the broker's key is wrong.
        """
        from ringback import Operator

        return self._endpoint(Operator, self.backend, "--backend")

    def player(self, player_id: PlayerID) -> Player:
        """Return a player for a `with` block, which connects it. The time limit starts now.

        Raises:
            Failure: the address, the key file or the broker's key is wrong.
        """
        from ringback import Player

        return self._endpoint(partial(Player, player_id=player_id), self.players, "--players")

    def left_s(self) -> float | None:
        """Return the seconds that are left of the time limit, at least 0; None: there is no limit."""
        return self.time_limit.left_s()

    def _endpoint(self, make: Callable[..., Endpoint], text: str, option: str) -> Endpoint:
        from ringback import Limits

        # The SDK also logs what it raises. The command prints the error, and once is enough.
        logging.getLogger("ringback").addHandler(logging.NullHandler())
        addresses = parse_addresses(text, option)
        self.time_limit.restart()
        try:
            return make(
                addresses,
                connect_timeout=self.time_limit.connecting_s(),
                limits=Limits(max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS),
                key_file=self.key_file,
                broker_key=self.broker_key,
            )
        except ValueError as error:
            raise wrong_key_file(error, "--key-file") from None


def wrong_key_file(error: ValueError, option: str) -> Failure:
    """Return the failure of a command with a wrong key file.

    Args:
        error: what the SDK says of it, in which an argument is named.
        option: the one that names the file.
    """
    return Failure(Exit.USAGE, f"{option}: {error}".replace("as broker_key,", "with --broker-key,"))


def connects(
    timeout_s: float = CONNECT_S,
    *,
    backend: bool = True,
    players: bool = False,
    endless: Literal["", "always", "with --follow", "with --interval"] = "",
) -> Callable[[Callable[Concatenate[Connection, Own], None]], Callable[..., None]]:
    """Give a command the options of a connection in place of its first parameter, `connection: Connection`.

    Args:
        timeout_s: the time limit of the command without `--timeout`, in seconds.
        backend: the command has `--backend`.
        players: the command has `--players`.
        endless: when the command goes on until Ctrl-C without `--timeout`; "": never.
    """
    options = [
        option("timeout", _timeout_option(timeout_s, endless)),
        *([option("backend", BackendOption, DEFAULT_BACKEND)] if backend else []),
        option("key_file", KeyFileOption),
        option("broker_key", BrokerKeyOption),
        *([option("players", PlayersOption, DEFAULT_PLAYERS)] if players else []),
    ]

    def make(timeout: float | None, **values: str) -> Connection:
        return Connection(TimeLimit(timeout, timeout_s), **values)

    return lambda command: expand_first_parameter(command, options, make)


def _timeout_option(default_s: float, endless: str) -> Any:
    default = (
        f"{default_s:g}" if default_s == CONNECT_S else f"{default_s:g}, of which {CONNECT_S:g} to connect"
    )
    if endless == "always":
        default = f"no limit, but {CONNECT_S:g} to connect, and for each answer"
    elif endless:
        default = f"{CONNECT_S:g}; {endless} no limit, but {CONNECT_S:g} for each answer"
    text = "The time limit of the whole command, connecting included; inf: no limit."
    return Annotated[
        float | None,
        typer.Option(
            "--timeout",
            metavar="SECONDS",
            parser=seconds("--timeout", "above 0, or inf for no limit", lambda given: given > 0),
            help=f"{text} [default: {default}]",
        ),
    ]
