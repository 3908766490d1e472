"""Pay exactly once, although the link is lost while the payment is under way.

    ringback broker
    python examples/bank.py tcp://127.0.0.1:5771 tcp://127.0.0.1:5770

A proxy stands between the player and the broker. It cuts the link in the middle of every payment.
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress

from ringback import Execution, Player, PlayerID, Retry, Server

PAYMENTS = 5


class Proxy:
    """Passes bytes between a player and the broker, and cuts the connections when it is told to."""

    def __init__(self, broker: str) -> None:
        host, _, port = broker.removeprefix("tcp://").rpartition(":")
        self._broker = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.address = "tcp://{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                below, _ = self._listener.accept()
                above = socket.create_connection(self._broker)
                self._open += [below, above]
                for source, target in ((below, above), (above, below)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        """Close all connections."""
        connections, self._open = self._open, []
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()
        self.cut()


def main(backend: str, players: str) -> None:
    purse = 100
    proxy = Proxy(players)
    with Server(backend) as server, Player(proxy.address) as player:

        @server.register_server_callback("bank:pay")
        def pay(source: PlayerID, amount: int, cb: Execution) -> None:
            nonlocal purse
            purse -= amount
            proxy.cut()  # the player will not get this reply
            cb(purse)

        for _ in range(PAYMENTS):
            call = player.trigger_server_callback("bank:pay", 10, retry=Retry(first_delay=0.02))
            print(f"paid 10, {call.result()} left")
    proxy.close()
    print(f"the purse has {purse}, after {PAYMENTS} payments of 10")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/bank.py BACKEND PLAYERS")
    main(*sys.argv[1:])
