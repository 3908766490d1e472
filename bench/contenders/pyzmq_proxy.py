"""The hand-written loops with libzmq's own proxy between them, in C."""

from __future__ import annotations

import sys
from contextlib import ExitStack

import zmq
from processes import start

from contenders import Middle, pyzmq_loops
from contenders.pyzmq_loops import Players
from ringback_cli.load_processes import line_of

NOTE = """The loops, with `zmq.proxy` of a ROUTER for the players and a DEALER for the server as broker. It
copies messages from one socket to the other, all in C: the least that a broker costs with one call a
message. It can serve one server alone, and knows of nobody who comes or goes."""

__all__ = ["NOTE", "Players", "Server", "start_broker"]


def start_broker(stack: ExitStack) -> Middle:
    broker = start(stack, "-m", "contenders.pyzmq_proxy")
    return Middle(broker, *line_of(broker, r"ready (\S+) (\S+)").groups())


def broker() -> None:
    context = zmq.Context()
    players, backend = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    for socket in (players, backend):
        socket.set_hwm(0)
    ports = [socket.bind_to_random_port("tcp://127.0.0.1") for socket in (players, backend)]
    print(f"ready tcp://127.0.0.1:{ports[0]} tcp://127.0.0.1:{ports[1]}", flush=True)
    zmq.proxy(players, backend)


class Server(pyzmq_loops.Server):
    def greet(self) -> None:
        """Waits for nothing: a DEALER keeps what the players send until the server is there."""


if __name__ == "__main__":
    sys.exit(broker())
