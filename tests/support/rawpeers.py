"""Peers that send a broker any bytes over a DEALER, and a canary that must not notice."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import zmq
from support.harness import PATIENCE_S, BrokerProcess
from zmq.utils.monitor import parse_monitor_message

from ringback import CallbackError, Operator, Player, Server
from ringback.credentials import KeyPair
from ringback.protocol import control
from ringback.protocol.control import ControlFrame, decode, encode
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID

PATIENCE_MS = int(PATIENCE_S * 1000)

_EVENTS = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_SUCCEEDED
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
)


class RawPeer:
    """A DEALER on one side of the broker. It sends no heartbeats, so only the broker ends the connection.

    Args:
        routing_id: the routing ID that it claims; empty: none; None: a random one.
        keys: its key pair with the broker's public key, for an encrypted link.
        source: the IP of this machine that it connects from.
        options: of the socket.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        address: str,
        *,
        routing_id: bytes | None = None,
        keys: KeyPair | None = None,
        source: str = "",
        **options: int,
    ) -> None:
        self.socket = context.socket(zmq.DEALER)
        if routing_id is None:
            routing_id = b"T" + secrets.token_bytes(15)
        if routing_id:
            self.socket.setsockopt(zmq.ROUTING_ID, routing_id)
        self.socket.setsockopt(zmq.RECONNECT_IVL, -1)
        self.socket.setsockopt(zmq.LINGER, 0)
        for name, value in options.items():
            self.socket.setsockopt(getattr(zmq, name), value)
        if keys is not None and keys.broker is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, keys.broker.encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public.encode())
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
        self.monitor = self.socket.get_monitor_socket(_EVENTS)
        self.socket.connect(address.replace("tcp://", f"tcp://{source}:0;") if source else address)

    def send(self, *parts: bytes) -> None:
        self.socket.send_multipart(parts)

    def receive(self) -> list[bytes]:
        assert self.socket.poll(PATIENCE_MS), "nothing came"
        parts: list[bytes] = self.socket.recv_multipart()
        return parts

    def told(self) -> ControlFrame:
        """Return the control frame that is the next message."""
        *id_part, frame = self.receive()
        assert id_part in ([], [b""])
        return decode(frame)

    def hello(self, role: Role, player_id: PlayerID | None = None, **fields: Any) -> None:
        frame = encode(control.Hello(role, player_id, **fields))
        self.send(*([frame] if role is Role.PLAYER else [b"", frame]))

    def join(
        self, role: Role, player_id: PlayerID | None = None, keys: tuple[str, ...] = (), **fields: Any
    ) -> control.Welcome:
        self.hello(role, player_id, keys=keys, **fields)
        while not isinstance(frame := self.told(), control.Welcome):
            assert isinstance(frame, control.Joined)
        return frame

    def wait_for(self, *events: int) -> int:
        """Wait for one of these events, and return the one that came first."""
        while True:
            assert self.monitor.poll(PATIENCE_MS), "the connection was not closed"
            event = int(parse_monitor_message(self.monitor.recv_multipart())["event"])
            if event in events:
                return event

    def wait_for_close(self) -> None:
        """Wait until the broker has closed the connection."""
        self.wait_for(zmq.EVENT_DISCONNECTED)

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Stage:
    """A server, a player and an operator of the SDK at a broker, with key pairs if the broker has one."""

    def __init__(self, broker: BrokerProcess, keys: Mapping[Role, KeyPair] | None = None) -> None:
        keys = keys or {}
        self.broker = broker
        self.context: zmq.Context[Any] = zmq.Context()
        self.server = Server(broker.backend, key_file=keys.get(Role.SERVER))
        self.player = Player(broker.players, player_id="canary", key_file=keys.get(Role.PLAYER))
        self.operator = Operator(broker.backend, key_file=keys.get(Role.OPERATOR))
        self.sources: list[Any] = []
        self.server.register_server_callback("echo", self._echo)

    def _echo(self, source: PlayerID, payload: Any) -> Any:
        if source != "canary":
            self.sources.append(source)
        return payload

    def counters(self) -> dict[str, int]:
        """Return the counters of the broker."""
        rows, _ = self.operator.query("counters").result()
        return dict(rows)

    def peer(self, role: Role, **options: Any) -> RawPeer:
        address = self.broker.players if role is Role.PLAYER else self.broker.backend
        return RawPeer(self.context, address, **options)

    def canary(self) -> Canary:
        return Canary(self.player)

    def __enter__(self) -> Self:
        for face in (self.server, self.player, self.operator):
            face.start()
        return self

    def __exit__(self, *_: object) -> None:
        for face in (self.operator, self.player, self.server):
            face.close()
        self.context.term()


class Canary:
    """A player that calls all the time. All its calls must succeed, and it must not stall."""

    def __init__(self, player: Player) -> None:
        self.calls = 0
        self._player = player
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._sang = threading.Condition()
        self._thread = threading.Thread(target=self._sing, daemon=True)

    def _sing(self) -> None:
        try:
            while not self._stop.is_set():
                assert self._player.trigger_server_callback("echo", self.calls).result() == self.calls
                with self._sang:
                    self.calls += 1
                    self._sang.notify_all()
        except (CallbackError, AssertionError) as error:
            self._failure = error
            with self._sang:
                self._sang.notify_all()

    def sing_on(self, times: int = 10) -> None:
        """Wait for some more calls."""
        with self._sang:
            until = self.calls + times
            assert self._sang.wait_for(lambda: self._failure or self.calls >= until, PATIENCE_S)
        if self._failure is not None:
            raise AssertionError("the canary fell silent") from self._failure

    def __enter__(self) -> Self:
        self._thread.start()
        self.sing_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.sing_on()
        finally:
            self._stop.set()
            self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
