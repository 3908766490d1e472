"""A broker for `ringback bench --local`: on free ports, with the settings of any broker.

    python -m ringback_cli.bench_broker

It prints "ready" with its addresses. It stops when standard input ends, also if the process that started it
was killed.
"""

from __future__ import annotations

import logging
import sys
import threading

from ringback_broker import Broker, BrokerSettings

READY = r"^ready (\S+) (\S+)$"
"""The line with the players' address and the backend's."""

GRACE_S = 0.5
"""How long the broker waits for peers that have not left, in seconds."""


def main() -> None:
    """Run a broker until standard input ends, or a signal comes."""
    logging.getLogger("ringback").addHandler(logging.NullHandler())
    address = "tcp://127.0.0.1:0"
    broker = Broker(BrokerSettings(players=address, backend=address, grace=GRACE_S))
    broker.handle_signals()

    def stop_at_the_end() -> None:
        sys.stdin.read()
        broker.stop()

    threading.Thread(target=stop_at_the_end, daemon=True).start()
    sys.stdout.write(f"ready {broker.players} {broker.backend}\n")
    sys.stdout.flush()
    broker.run()


if __name__ == "__main__":
    main()
