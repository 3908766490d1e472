"""Loops written by hand with pyzmq: ROUTER and DEALER, one call a message, and nothing that is not needed."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from itertools import count

import msgpack
import zmq
from processes import start

from contenders import Middle
from ringback_cli.load import KEY, End, Measurement
from ringback_cli.load_processes import line_of

NOTE = """ROUTER and DEALER sockets, one call a message, msgpack. No deadlines, errors, presence or limits:
this is what you would write first. Each loop blocks in poll, and then receives without waiting until no
message is left."""


def start_broker(stack: ExitStack) -> Middle:
    broker = start(stack, "-m", "contenders.pyzmq_loops")
    return Middle(broker, *line_of(broker, r"ready (\S+) (\S+)").groups())


def broker() -> None:
    context = zmq.Context()
    players, backend = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    for socket in (players, backend):
        socket.set_hwm(0)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (players, backend)]
    print(f"ready tcp://127.0.0.1:{ports[0]} tcp://127.0.0.1:{ports[1]}", flush=True)
    poller = zmq.Poller()
    poller.register(players, zmq.POLLIN)
    poller.register(backend, zmq.POLLIN)
    while True:
        for socket, _ in poller.poll():
            try:
                while True:
                    if socket is players:
                        player, frame = socket.recv_multipart(zmq.NOBLOCK)
                        backend.send_multipart([b"server", player, frame])
                    else:
                        server, player, frame = socket.recv_multipart(zmq.NOBLOCK)
                        if player:
                            players.send_multipart([player, frame])
                        else:  # the server asks whether it is connected
                            backend.send_multipart([server, b"", b""])
            except zmq.Again:
                pass


def routing_id(player: int) -> bytes:
    return b"player-%d" % player


class Loop(End):
    """The loop of either side: it handles calls of the other side, and takes replies to its own."""

    def open(self) -> None:
        self.context = zmq.Context()
        self.poller = zmq.Poller()
        self.pending: dict[int, float] = {}
        self.latencies: list[float] = []
        self.handlers = {KEY: self.work.handle}
        self.connect()

    def connect(self) -> None:
        raise NotImplementedError

    def send(self, player: int, frame: bytes) -> None:
        raise NotImplementedError

    def dealer(self, identity: bytes) -> zmq.Socket[bytes]:
        socket = self.context.socket(zmq.DEALER)
        socket.set_hwm(0)
        socket.routing_id = identity
        socket.connect(self.address)
        return socket

    def serve(self) -> None:
        while True:
            self.step()

    def run(self, asked: Measurement) -> list[float]:
        self.latencies = []
        until = time.perf_counter() + asked.seconds
        numbers = count()
        while (now := time.perf_counter()) < until or self.pending:
            while now < until and len(self.pending) < asked.in_flight:
                number = next(numbers)
                self.pending[number] = time.perf_counter()
                frame = msgpack.packb((number, KEY, self.work.payload(number)))
                self.send(number % self.players, frame)
            self.step()
        return self.latencies

    def step(self) -> None:
        raise NotImplementedError

    def take(self, frame: bytes) -> bytes | None:
        """Handle a call and return the reply to send, or take a reply and return None."""
        number, *rest = msgpack.unpackb(frame)
        if len(rest) == 2:
            key, payload = rest
            return bytes(msgpack.packb((number, self.handlers[key](payload))))
        self.latencies.append(time.perf_counter() - self.pending.pop(number))
        self.work.check(number, rest[0])
        return None


class Server(Loop):
    def connect(self) -> None:
        self.socket = self.dealer(b"server")
        self.greet()
        self.poller.register(self.socket, zmq.POLLIN)
        self.missing = self.players

    def greet(self) -> None:
        """Wait until the socket is connected. Until then the broker would drop messages for this side."""
        self.socket.send_multipart([b"", b""])
        self.socket.recv_multipart()

    def run(self, asked: Measurement) -> list[float]:
        while self.missing:
            self.step()
        return super().run(asked)

    def send(self, player: int, frame: bytes) -> None:
        self.socket.send_multipart([routing_id(player), frame])

    def step(self) -> None:
        self.poller.poll()
        try:
            while True:
                player, frame = self.socket.recv_multipart(zmq.NOBLOCK)
                if not frame:
                    self.missing -= 1
                elif (reply := self.take(frame)) is not None:
                    self.socket.send_multipart([player, reply])
        except zmq.Again:
            pass


class Players(Loop):
    def connect(self) -> None:
        self.sockets = [self.dealer(routing_id(player)) for player in range(self.players)]
        for socket in self.sockets:
            socket.send(b"")  # the server counts the players that are connected
            self.poller.register(socket, zmq.POLLIN)

    def send(self, player: int, frame: bytes) -> None:
        self.sockets[player].send(frame)

    def step(self) -> None:
        for socket, _ in self.poller.poll():
            try:
                while True:
                    reply = self.take(socket.recv(zmq.NOBLOCK))
                    if reply is not None:
                        socket.send(reply)
            except zmq.Again:
                pass


if __name__ == "__main__":
    sys.exit(broker())
