"""The loops written by hand, with libzmq's own proxy in C between them."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import zmq
from processes import allow_many_connections, start

from contenders import Middle, pyzmq_loops
from contenders.pyzmq_loops import Players
from ringback_cli.load_processes import line_of

NOTE = """The loops, with `zmq.proxy` as the broker, between a ROUTER for the players and a DEALER for the
server. It copies messages from one socket to the other, all in C: with one call a message, no broker costs
less. It can serve only one server, and does not notice when a peer joins or leaves."""

__all__ = ["NOTE", "Players", "Server", "start_broker"]


def start_broker(stack: ExitStack) -> Middle:
    broker = start(stack, "-m", "contenders.pyzmq_proxy")
    return Middle(broker, *line_of(broker, r"ready (\S+) (\S+)").groups())


def broker() -> None:
    allow_many_connections()
    context = zmq.Context()
    players, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket in (players, backend):
        socket.set_hwm(0)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (players, backend)]
    print(f"ready tcp://127.0.0.1:{ports[0]} tcp://127.0.0.1:{ports[1]}", flush=True)
    zmq.proxy(players, backend)


class Server(pyzmq_loops.Server):
    def greet(self) -> None:
        """Do nothing: the broker's DEALER keeps messages of the players until the server is connected."""


if __name__ == "__main__":
    sys.exit(broker())
