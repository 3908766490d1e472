"""Annotations whose names come later, or that type checkers alone know.

Python evaluates annotations when a function is defined, unless `annotations` is imported from `__future__`.
From 3.14 on, it evaluates them when they are asked for. So the program below runs with the import before
3.14, and without it from then on.
"""

import sys
from typing import Any

import pytest
from support.faces import LogLines

from ringback import Player, Server
from ringback._roles.annotations import types_of
from ringback.testing import LocalBroker

LATE = sys.version_info >= (3, 14)

PROGRAM = """
import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nowhere import Missing

def open_wrapper(function):
    @functools.wraps(function)
    def wrapper(*arguments): return function(*arguments)
    return wrapper

def later(source: Missing, order: Order) -> list[str]: return [order.item, order.next.item]
async def later_too(source: Missing, order: Order, cb: Missing) -> None: cb([order.item, order.next.item])
@open_wrapper
def wrapped(source: Missing, order: Order) -> list[str]: return [order.item, order.next.item]
class Shop:
    def method(self, source: Missing, order: Order) -> list[str]: return [order.item, order.next.item]
    def __call__(self, source: Missing, order: Order) -> list[str]: return [order.item, order.next.item]
partial = functools.partial(later)
method, instance = Shop().method, Shop()

def missing(source: Any, order: Missing) -> Any: return order
def missing_list(source: Any, order: list[Missing]) -> Any: return order
def no_attribute(source: Any, order: functools.missing) -> Any: return order

@dataclass
class Order:
    item: str
    next: Order | None = None
"""


def program() -> dict[str, Any]:
    """Run the program, and return its names."""
    names: dict[str, Any] = {"__name__": "late_annotations"}
    sys.modules["late_annotations"] = sys.modules[__name__]  # where a dataclass and msgspec look names up
    future = "" if LATE else "from __future__ import annotations\n"
    exec(future + PROGRAM, names)
    return names


NAMES = program()
Order = NAMES["Order"]
HANDLERS = ("later", "later_too", "wrapped", "method", "instance", "partial")


@pytest.mark.parametrize("name", HANDLERS)
def test_a_type_that_is_defined_after_the_handler(name: str) -> None:
    types = types_of(NAMES[name], "key", 1)
    assert types is not None and types.payload is not None and types.payload.name == "Order"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("missing", "name 'Missing' is not defined"),
        ("missing_list", "name 'Missing' is not defined"),
        ("no_attribute", "has no attribute 'missing'"),
    ],
)
def test_a_name_that_type_checkers_alone_know_changes_nothing(
    name: str, problem: str, sdk_log: LogLines
) -> None:
    with LocalBroker() as broker, Server(broker.backend) as server, Player(broker.players) as player:
        server.register_server_callback(name, NAMES[name])
        assert player.trigger_server_callback(name, [5]).result() == [5]
    level, text, _ = sdk_log.seen.items[0]
    assert level == "WARNING"
    assert f"the payload of {name!r} stays as it is" in text and problem in text


def test_handlers_get_such_types() -> None:
    order = {"item": "a", "next": {"item": "b"}}
    with LocalBroker() as broker, Server(broker.backend) as server, Player(broker.players) as player:
        for name in HANDLERS:
            server.register_server_callback(name, NAMES[name])
            assert player.trigger_server_callback(name, order).result() == ["a", "b"], name
