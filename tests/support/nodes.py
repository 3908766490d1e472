"""A node's link to NATS for tests, without a broker: what arrives is kept, and can be waited for."""

from __future__ import annotations

import logging
import select
import time
from collections.abc import Callable
from typing import Any, Self

from support.harness import PATIENCE_S
from support.nats_servers import NODE, REALM

from ringback_broker.cluster.records import Absent, Outcome, Record
from ringback_broker.nats.link import NatsLink
from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames

BOOT = b"\1" * 8


class Node:
    """A link to NATS, in the place of a broker's loop.

    Attributes:
        changes: what was told of watched records, as key and state.
        contacts: what was told of the contact.
        messages: what came from other nodes, as node, boot and parts.
        interruptions: how often messages may have been lost.
        nobodies: for which messages nobody was there, as node, boot and epoch.
        failures: the lines of problems that end a broker.
    """

    def __init__(
        self,
        addresses: str,
        name: str = "a",
        *,
        login: Login | None = None,
        realm: str = REALM,
        boot: bytes = BOOT,
    ) -> None:
        self.changes: list[tuple[str, Record | Absent]] = []
        self.contacts: list[bool] = []
        self.messages: list[tuple[str, bytes, tuple[bytes, ...]]] = []
        self.interruptions = 0
        self.nobodies: list[tuple[str, bytes, int]] = []
        self.failures: list[str] = []
        self.boot = boot
        login = login or Login(tuple(addresses.split(",")), dict(NODE))
        self.link = NatsLink(login, RealmNames(realm), name, "tests", self.failures.append, raise_it)
        self.link.attach(self, self)
        self.records, self.frames = self.link.records, self.link.frames
        self.frames.listen(boot)
        self.link.start()

    # -- what a realm does

    def changed(self, key: str, now_is: Record | Absent, now: float) -> None:
        self.changes.append((key, now_is))

    def contact(self, is_there: bool, now: float) -> None:
        self.contacts.append(is_there)

    def from_node(self, node: str, boot: bytes, parts: tuple[bytes, ...], now: float) -> None:
        self.messages.append((node, boot, parts))

    def nobody(self, node: str, boot: bytes, epoch: int, now: float) -> None:
        self.nobodies.append((node, boot, epoch))

    def interrupted(self, now: float) -> None:
        self.interruptions += 1

    # -- what tests do

    @property
    def in_contact(self) -> bool:
        return self.contacts[-1:] == [True]

    def state(self, key: str) -> Record | Absent | None:
        """Return the last state that was told of a watched record."""
        return next((state for found, state in reversed(self.changes) if found == key), None)

    def wait(self, condition: Callable[[], Any], what: str = "", within_s: float = PATIENCE_S) -> None:
        """Take what arrives until a condition holds."""
        wait_for([self], condition, what, within_s)

    def ask(self, method: Callable[..., None], *arguments: Any) -> Outcome:
        """Ask for something of a record, and return the outcome."""
        outcomes: list[Outcome] = []
        method(*arguments, lambda outcome, _now: outcomes.append(outcome))
        self.wait(lambda: outcomes, "an outcome")
        return outcomes[0]

    def close(self) -> None:
        self.link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def raise_it(what: str, error: Exception) -> None:
    raise AssertionError(what) from error


def wait_for(
    nodes: list[Node], condition: Callable[[], Any], what: str = "", within_s: float = PATIENCE_S
) -> None:
    """Take what arrives at some nodes until a condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            told = [(node.contacts, node.failures, node.changes[-3:]) for node in nodes]
            raise AssertionError(f"this did not happen in time: {what}; {told}")
        links = [node.link for node in nodes]
        for link in links:
            link.flush()
        due = min(link.due for link in links) - time.monotonic()
        select.select(links, [], [], min(max(0.0, due), 0.05))
        for link in links:
            link.take(time.monotonic())


class Lines(logging.Handler):
    """Keeps what the broker logs."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())
