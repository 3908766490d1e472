"""Endpoints of a command: made, started, left."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from ringback_cli.exits import Exit, Failure
from ringback_cli.options import Patience

if TYPE_CHECKING:
    from ringback import Call, CallGroup, Operator, Player, PlayerID

    Endpoint = TypeVar("Endpoint", Operator, Player)

MAX_ITEMS = 1024 * 1024
"""No answer has more: one is 1 MiB at most. A person who looks at an answer wants all of it, so the SDK's
tighter bounds against hostile players are not of use here."""


class Keys(NamedTuple):
    """How a command shows who it is."""

    key_file: str | None
    broker_key: str | None


def operator(address: str, patience: Patience, keys: Keys) -> Operator:
    """Gives an operator for a `with` block.

    Raises:
        Failure: the address is wrong.
    """
    from ringback import Operator

    return _make(Operator, address, "--backend", patience, keys)


def player(address: str, player_id: PlayerID, patience: Patience, keys: Keys) -> Player:
    """Gives a player for a `with` block.

    Raises:
        Failure: the address is wrong.
    """
    from ringback import Player

    return _make(Player, address, "--players", patience, keys, player_id=player_id)


def _make(
    kind: type[Endpoint], address: str, option: str, patience: Patience, keys: Keys, **settings: Any
) -> Endpoint:
    from ringback import Limits
    from ringback.protocol.addresses import check_address

    # What the SDK logs comes out as the command's error too: once is enough.
    logging.getLogger("ringback").addHandler(logging.NullHandler())
    limits = Limits(max_array_len=MAX_ITEMS, max_map_len=MAX_ITEMS)
    try:
        check_address(address, bind=False)
        settings |= {"connect_timeout": patience.connecting_s(), "limits": limits, **keys._asdict()}
    except ValueError as error:
        raise Failure(Exit.USAGE, f"{option}: {error}") from None
    try:
        return kind(address, **settings)
    except ValueError as error:
        raise Failure(Exit.USAGE, f"--key-file, --broker-key: {error}") from None


def result_of(call: Call) -> Any:
    """Waits for a call: none gives None, one the value, several a tuple.

    Raises:
        CallbackError: the call failed.
    """
    try:
        return call.result()
    except KeyboardInterrupt:
        call.cancel()  # the handler's side is told
        raise


def calls_of(group: CallGroup, ended: Callable[[], None]) -> dict[PlayerID, Call]:
    """Waits for the calls of a group; calls `ended` after each."""
    try:
        for _ in group:
            ended()
        return group.all()
    except KeyboardInterrupt:
        group.cancel()
        raise
