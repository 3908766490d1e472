"""The work by ringback's blocking face: a thread for each call in flight."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from work import KEY, Stopwatch, check, handle, payload_of

from ringback import Player, Server


def server(address: str) -> None:
    endpoint = Server(address)

    @endpoint.register_server_callback(KEY)
    def items(source: int | str, payload: Any) -> Any:
        return handle(payload)

    with endpoint:
        print("ready", flush=True)
        threading.Event().wait()


def player(address: str, in_flight: int, warm_up: int, calls: int) -> None:
    watch = Stopwatch()
    with Player(address, 7) as endpoint:

        def run(first: int, count: int, latencies: list[float]) -> None:
            numbers = iter(range(first, first + count))

            def work() -> None:
                for number in numbers:
                    started = time.perf_counter()
                    result = endpoint.trigger_server_callback(KEY, payload_of(number)).result()
                    latencies.append(time.perf_counter() - started)
                    check(number, result)

            threads = [threading.Thread(target=work) for _ in range(in_flight)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        run(0, warm_up, [])
        watch.start()
        run(warm_up, calls, watch.latencies_s)
        watch.report()


if __name__ == "__main__":
    role, address, *rest = sys.argv[1:]
    if role == "server":
        server(address)
    else:
        player(address, *map(int, rest))
