"""ringback's blocking face: each call has a callback, which makes the next call."""

from __future__ import annotations

import time
from itertools import count
from queue import SimpleQueue
from typing import Any

from contenders import ringback_blocking
from contenders.ringback_aio import start_broker
from ringback_cli.load import Measurement

NOTE = "ringback, the blocking face, with its defaults: each call has a callback, which makes the next call."

__all__ = ["NOTE", "Players", "Server", "start_broker"]


class Callbacks(ringback_blocking.Threads):
    def run(self, asked: Measurement) -> list[float]:
        latencies: list[float] = []
        numbers = count()
        ended = SimpleQueue[BaseException | None]()
        clock = time.perf_counter
        until = clock() + asked.seconds

        def call() -> None:
            number, started_at = next(numbers), clock()

            def callback(result: Any) -> None:
                now = clock()
                latencies.append(now - started_at)
                try:
                    self.work.check(number, result)
                    if now < until:
                        call()
                    else:
                        ended.put(None)
                except BaseException as error:  # also sys.exit(): a worker runs this, and goes on
                    ended.put(error)

            payload = self.work.payload(number)
            self.trigger(number % self.players, payload, callback=callback, on_error=ended.put)

        for _ in range(asked.in_flight):
            call()
        for _ in range(asked.in_flight):
            if error := ended.get():
                raise error
        return latencies


class Server(Callbacks, ringback_blocking.Server):
    pass


class Players(Callbacks, ringback_blocking.Players):
    pass
