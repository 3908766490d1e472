"""A player in one file, written from "A minimal player" in docs/protocol.md, with ZeroMQ and msgpack alone.

It imports nothing of ringback on purpose. The numbers in its comments are the steps of that section.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Any

import msgpack
import zmq

HELLO, WELCOME, REJECT, BYE, PING, PONG = 1, 2, 3, 4, 5, 6
SERVER_DOWN, DRAINING, DATA, BOUNCE = 10, 11, 16, 18
CALL, RESULT, ERROR, CANCEL = 1, 2, 3, 4
NO, YES = 0, 2
UNKNOWN_CALLBACK, TIMEOUT, SERVER_LOST, CONNECTION_LOST, HANDLER_ERROR = 1, 20, 22, 23, 30
TO_SERVER = bytes([1, DATA, 0, 0, 0, 0, 0, 0])


class Refused(Exception):
    """The broker sent REJECT."""


class MinimalPlayer:
    """A player that calls the server and handles calls, in the thread that calls its methods.

    Attributes:
        outcomes: for each call that has ended, by its id: ("results", [...]) or (code, message).
    """

    def __init__(self, address: str, player_id: Any = None) -> None:
        self.handlers: dict[str, Callable[[Any], Any]] = {}
        self.outcomes: dict[int, tuple[Any, Any]] = {}
        self.over = False
        self._pending: dict[int, float] = {}
        self._id = secrets.randbits(63)
        self._address, self._asked_for = address, player_id

    def connect(self) -> None:
        self._socket = zmq.Context.instance().socket(zmq.DEALER)  # 1
        self._socket.setsockopt(zmq.ROUTING_ID, b"M" + secrets.token_bytes(15))
        self._socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self._socket.setsockopt(zmq.MAXMSGSIZE, 1052672)
        self._socket.setsockopt(zmq.LINGER, 500)
        self._socket.connect(self._address)
        fields: dict[str, Any] = {"role": "player", "keys": list(self.handlers)}  # 2
        if self._asked_for is not None:
            fields["player_id"] = self._asked_for
        self._send(bytes([1, HELLO, 0, 0, 0, 0, 0, 0]) + msgpack.packb(fields))
        if not self._socket.poll(5000):  # 3
            raise TimeoutError("no broker answered")
        frame = self._socket.recv_multipart()[-1]
        found = msgpack.unpackb(frame[8:])
        if frame[1] == REJECT:
            self.close()
            raise Refused(found["code"], found["reason"])
        assert frame[1] == WELCOME
        self.player_id, self.lease_ms, self.server = found["player_id"], found["lease_ms"], found["server"]

    def close(self) -> None:
        self.over = True
        self._socket.close()

    def leave(self) -> None:
        self._send(bytes([1, BYE, 0, 0, 0, 0, 0, 0]))
        self.close()

    def call(self, key: str, payload: Any, budget_ms: int) -> int:  # 5
        self._id = (self._id + 1) % 2**64
        self._pending[self._id] = time.monotonic() + budget_ms / 1000
        self._send(TO_SERVER + msgpack.packb([[CALL, self._id, key, payload, budget_ms]]))
        return self._id

    def run_until(self, check: Callable[[], Any], timeout_s: float) -> None:
        """Do what is due, until a check succeeds."""
        ends_at = time.monotonic() + timeout_s
        while not check():
            now = time.monotonic()
            assert now < ends_at, f"not in time; these calls have ended: {self.outcomes}"
            due_at = min([now + self.lease_ms / 2000, self._sent_at + self.lease_ms / 2000, ends_at])
            due_at = min([due_at, *self._pending.values()])
            if self._socket.poll(max(0, int(1000 * (due_at - now)) + 1)):
                self._receive(self._socket.recv_multipart()[-1])
            elif time.monotonic() - self._sent_at >= self.lease_ms / 2000:
                self._send(bytes([1, PING, 0, 0, 0, 0, 0, 0]))  # 6
            now = time.monotonic()
            for call_id in [found for found, at in self._pending.items() if at <= now]:  # 5
                self._end(call_id, TIMEOUT, "")
                self._send(TO_SERVER + msgpack.packb([[CANCEL, call_id]]))

    def _send(self, frame: bytes) -> None:
        self._sent_at = time.monotonic()
        self._socket.send(frame)

    def _end(self, call_id: int, first: Any, second: Any) -> None:
        if self._pending.pop(call_id, None) is not None:
            self.outcomes[call_id] = first, second

    def _end_all(self, code: int) -> None:
        for call_id in list(self._pending):
            self._end(call_id, code, "")

    def _receive(self, frame: bytes) -> None:  # 4
        kind = frame[1]
        if kind == PING:
            self._send(frame[:1] + bytes([PONG]) + frame[2:])
        elif kind == DATA:
            for envelope in msgpack.unpackb(frame[8:], strict_map_key=False):
                self._take(frame[:8], envelope)
        elif kind == BOUNCE:
            for envelope in msgpack.unpackb(frame[16:], strict_map_key=False):
                if envelope[0] == CALL:
                    self._end(envelope[1], int.from_bytes(frame[2:4]), "bounced")
        elif kind == SERVER_DOWN:
            self._end_all(SERVER_LOST)
        elif kind == DRAINING:
            self.leave()
        elif kind == REJECT:
            self._end_all(CONNECTION_LOST)
            self.close()

    def _take(self, header: bytes, envelope: list[Any]) -> None:
        if envelope[0] == CALL:
            self._send(header + msgpack.packb([self._handle(*envelope[1:4])]))
        elif envelope[0] == RESULT and header == TO_SERVER:
            self._end(envelope[1], "results", envelope[2])
        elif envelope[0] == ERROR and header == TO_SERVER:
            self._end(envelope[1], envelope[2], envelope[3])

    def _handle(self, call_id: int, key: str, payload: Any) -> list[Any]:
        handler = self.handlers.get(key)
        if handler is None:
            return [ERROR, call_id, UNKNOWN_CALLBACK, "no such callback", NO, None]
        try:
            return [RESULT, call_id, [handler(payload)]]
        except Exception:
            return [ERROR, call_id, HANDLER_ERROR, "it failed", YES, None]
