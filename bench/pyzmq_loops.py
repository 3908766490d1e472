"""The same work by hand-written pyzmq loops: ROUTER/DEALER, one call a message, nothing but the work.

No deadlines, no errors, no presence, no limits: what one would write first. Each loop polls once and
then receives without waiting until nothing is left, as the ZeroMQ guide's brokers do at best.
"""

from __future__ import annotations

import sys
import time

import msgpack
import zmq
from work import KEY, Stopwatch, check, handle, payload_of


def broker() -> None:
    context = zmq.Context()
    players, backend = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (players, backend)]
    for socket in (players, backend):
        socket.set_hwm(0)
    print(f"ready players=tcp://127.0.0.1:{ports[0]} backend=tcp://127.0.0.1:{ports[1]}", flush=True)
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
                        _, player, frame = socket.recv_multipart(zmq.NOBLOCK)
                        players.send_multipart([player, frame])
            except zmq.Again:
                pass


def server(address: str) -> None:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.set_hwm(0)
    socket.routing_id = b"server"
    socket.connect(address)
    handlers = {KEY: handle}
    print("ready", flush=True)
    while True:
        socket.poll()
        try:
            while True:
                player, frame = socket.recv_multipart(zmq.NOBLOCK)
                call_id, key, payload = msgpack.unpackb(frame)
                socket.send_multipart([player, msgpack.packb((call_id, handlers[key](payload)))])
        except zmq.Again:
            pass


def player(address: str, in_flight: int, warm_up: int, calls: int) -> None:
    socket = zmq.Context().socket(zmq.DEALER)
    socket.set_hwm(0)
    socket.routing_id = b"player"
    socket.connect(address)
    watch = Stopwatch()
    pending: dict[int, float] = {}

    def run(first: int, count: int, latencies: list[float]) -> None:
        number, done, end = first, 0, first + count
        while done < count:
            while number < end and len(pending) < in_flight:
                pending[number] = time.perf_counter()
                socket.send(msgpack.packb((number, KEY, payload_of(number))))
                number += 1
            socket.poll()
            try:
                while True:
                    call_id, result = msgpack.unpackb(socket.recv(zmq.NOBLOCK))
                    latencies.append(time.perf_counter() - pending.pop(call_id))
                    check(call_id, result)
                    done += 1
            except zmq.Again:
                pass

    run(0, warm_up, [])
    watch.start()
    run(warm_up, calls, watch.latencies_s)
    watch.report()


if __name__ == "__main__":
    role, *rest = sys.argv[1:]
    if role == "broker":
        broker()
    elif role == "server":
        server(rest[0])
    else:
        player(rest[0], *map(int, rest[1:]))
