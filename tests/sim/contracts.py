"""The contract that the simulator calls by: its types, and values that fit it or do not."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ringback.contracts import ClientCallback, ServerCallback
from ringback.core.conversion import Types
from ringback.protocol.player_ids import PlayerID

KEY = "typed"
"""The key of the contract. Some endpoints register a handler by key alone, as an older program does."""


class Do(Enum):
    """What a handler does."""

    REPLY = "reply"
    TWICE = "twice"
    RAISE = "raise"
    ODD = "odd"
    ODD_DATA = "odd data"
    NESTED = "nested"
    NEVER = "never"
    WRONG = "wrong"


@dataclass
class Task:
    """A payload."""

    call: str
    do: Do
    after_s: float


@dataclass
class Done:
    """A result."""

    call: str
    place: int | str


AT_SERVER = ServerCallback(KEY, Task, Done)
AT_PLAYER = ClientCallback(KEY, Task, Done)


def types_of(key: str) -> Types | None:
    """Return the types of a callback; None if no contract has its key."""
    return AT_SERVER.types if key == KEY else None


@dataclass
class Payload:
    """The payload of a call.

    Attributes:
        value: what the program passes when it triggers.
        plain: what the wire carries of it.
        fits: whether it fits the contract; None if the callback has none.
        by_contract: whether the program triggers by contract, or else by key.
    """

    value: Any
    plain: Any
    fits: bool | None = None
    by_contract: bool = False


def payload_of(name: str, do: str, after_s: float, key: str, form: str, choice: random.Random) -> Payload:
    """Return the payload of a call.

    Args:
        form: words that say how the callback of the contract is called: "contract": by it, else by its key;
            "wrong": with a payload that does not fit.
    """
    if key != KEY:
        return Payload([name, do, after_s], [name, do, after_s])
    by_contract = "contract" in form
    if "wrong" in form:
        wrong: Any = choice.choice(_WRONG_PAYLOADS)(name)
        if by_contract and choice.random() < 0.5:
            wrong = choice.choice(_WRONG_TASKS)(name)
        return Payload(wrong, plain(wrong), False, by_contract)
    task = Task(name, Do(do), after_s)
    return Payload(task if by_contract else plain(task), plain(task), True, by_contract)


_WRONG_PAYLOADS: list[Callable[[str], Any]] = [
    lambda name: {"call": name, "do": "reply", "after_s": "soon"},
    lambda name: {"call": name, "do": "sing", "after_s": 0.0},
    lambda name: {"call": name, "do": "reply"},
    lambda name: {"call": name, "do": "reply", "after_s": None},
    lambda name: [name, "reply", 0.0],
]
"""Plain values that are no `Task`, but have the name of the call."""

_WRONG_TASKS: list[Callable[[str], Task]] = [
    lambda name: Task(name, Do.REPLY, "soon"),  # type: ignore[arg-type]
    lambda name: Task(name, "sing", 0.0),  # type: ignore[arg-type]
]
"""A dataclass checks nothing itself."""


def read(payload: Any) -> tuple[str, str, float]:
    """Return the name of the call, what its handler does, and after how many seconds."""
    match payload:
        case Task():
            return payload.call, payload.do.value, payload.after_s
        case {"call": name, "do": ("reply" | "wrong") as do, "after_s": float(after_s)}:
            return name, do, after_s
        case {"call": name}:  # only a handler without a contract gets what does not fit
            return name, "reply", 0.0
        case [name, do, after_s]:
            return name, do, after_s
    raise AssertionError(f"a handler got {payload!r}")


def result_of(
    name: str, place: PlayerID, wrong: bool, typed: bool, choice: random.Random
) -> tuple[tuple[Any, ...], bool]:
    """Return the results of the callback of the contract, and whether they fit.

    Args:
        typed: whether its handler is registered with the contract.
    """
    right = Done(name, place)
    if not wrong:
        return (right if typed and choice.random() < 0.7 else plain(right),), True
    if typed and choice.random() < 0.5:
        nowhere: Any = None
        return choice.choice([(Done(name, nowhere),), (right, right)]), False
    return choice.choice([({"call": name},), ([name, place],), (name, place), ()]), False


def plain(value: Any) -> Any:
    """Return what the wire carries of a value, fitting or not. This is not the code under test."""
    match value:
        case Task():
            do = value.do.value if isinstance(value.do, Do) else value.do
            return {"call": value.call, "do": do, "after_s": value.after_s}
        case Done():
            return {"call": value.call, "place": value.place}
    return value
