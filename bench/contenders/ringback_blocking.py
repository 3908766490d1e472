"""ringback's blocking face: a thread for each call in flight."""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

from contenders.ringback_aio import start_broker
from ringback import Call, Player
from ringback import Server as BlockingServer
from ringback_cli.load import KEY, End, Measurement, player_id

NOTE = "ringback, the blocking face, with its defaults: a thread for each call in flight."

__all__ = ["NOTE", "Players", "Server", "start_broker"]


class Threads(End):
    def serve(self) -> None:
        threading.Event().wait()

    @abstractmethod
    def trigger(self, player: int, payload: Any, **options: Any) -> Call[Any]:
        """Make a call, by a player to the server or by the server to a player."""

    def run(self, asked: Measurement) -> list[float]:
        latencies: list[float] = []
        numbers = count()
        until = time.perf_counter() + asked.seconds

        def work() -> None:
            while (started_at := time.perf_counter()) < until:
                number = next(numbers)
                result = self.trigger(number % self.players, self.work.payload(number)).result()
                latencies.append(time.perf_counter() - started_at)
                self.work.check(number, result)

        with ThreadPoolExecutor(asked.in_flight) as pool:
            for future in [pool.submit(work) for _ in range(asked.in_flight)]:
                future.result()
        return latencies


class Server(Threads):
    def open(self) -> None:
        self.server = BlockingServer(self.address)
        self.server.register_server_callback(KEY, lambda source, payload: self.work.handle(payload))
        self.server.start()

    def trigger(self, player: int, payload: Any, **options: Any) -> Call[Any]:
        return self.server.trigger_client_callback(KEY, player_id(player), payload, **options)


class Players(Threads):
    def open(self) -> None:
        self.endpoints = [Player(self.address, player_id(number)) for number in range(self.players)]
        for endpoint in self.endpoints:
            endpoint.register_client_callback(KEY, self.work.handle)
            endpoint.start()

    def trigger(self, player: int, payload: Any, **options: Any) -> Call[Any]:
        return self.endpoints[player].trigger_server_callback(KEY, payload, **options)
