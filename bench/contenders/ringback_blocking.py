"""ringback's blocking face: a thread for each call in flight."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from contenders.ringback_aio import start_broker
from ringback import Player
from ringback import Server as BlockingServer
from ringback_cli.load import KEY, End, Measurement, player_id

NOTE = "ringback, the blocking face, with its defaults: a thread for each call in flight."

__all__ = ["NOTE", "Players", "Server", "start_broker"]


class Threads(End):
    def serve(self) -> None:
        threading.Event().wait()

    def call(self, player: int, payload: object) -> object:
        raise NotImplementedError

    def run(self, asked: Measurement) -> list[float]:
        latencies: list[float] = []
        numbers = count()
        until = time.perf_counter() + asked.seconds

        def work() -> None:
            while (started_at := time.perf_counter()) < until:
                number = next(numbers)
                result = self.call(number % self.players, self.work.payload(number))
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

    def call(self, player: int, payload: object) -> object:
        return self.server.trigger_client_callback(KEY, player_id(player), payload).result()


class Players(Threads):
    def open(self) -> None:
        self.endpoints = [Player(self.address, player_id(number)) for number in range(self.players)]
        for endpoint in self.endpoints:
            endpoint.register_client_callback(KEY, self.work.handle)
            endpoint.start()

    def call(self, player: int, payload: object) -> object:
        return self.endpoints[player].trigger_server_callback(KEY, payload).result()
