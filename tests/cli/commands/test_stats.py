"""`ringback stats` as a process, at a real broker."""

from __future__ import annotations

import json
import signal
from typing import Any

from support.harness import BrokerProcess

from ringback_cli.exits import Exit


def table(output: str) -> list[list[str]]:
    return [line.split() for line in output.splitlines()]


def test_stats(shop: Any) -> None:
    code, output, errors = shop.run("stats")
    assert (code, errors) == (Exit.OK, "")
    head, *rows = table(output)
    counted = dict(rows)
    assert head == ["counter", "total"]
    assert int(counted["sessions_begun"]) >= 4 and counted["refused_full"] == "0"
    _, output, _ = shop.run("stats", "--json")
    assert list(json.loads(output)["counters"]) == list(counted)


def test_stats_again_and_again(shop: Any) -> None:
    code, output, errors = shop.run("stats", "--interval", "0.1", "--count", "3", "--json")
    assert (code, errors) == (Exit.OK, "")
    first, second, third = map(json.loads, output.splitlines())
    assert list(first) == ["counters"] and list(second) == ["counters", "a_second"]
    assert third["a_second"]["sessions_begun"] == 0.0  # all answers come over one link
    command = shop.start("stats", "--interval", "60")
    assert command.popen.stdout.readline().split() == [b"counter", b"total"]
    command.popen.send_signal(signal.SIGINT)
    code, _, errors = command.end()
    assert (code, errors) == (Exit.INTERRUPTED, "")


def test_stats_of_a_broker_that_dies(command: Any) -> None:
    with BrokerProcess() as broker:
        stats = command("stats", "--interval", "0.1", "--backend", broker.backend, "--timeout", "5")
        assert stats.popen.stdout.readline()
        broker.process.kill()
        code, _, errors = stats.end()
    (error,) = errors.splitlines()  # no line `executed:`: a query has no handler
    assert code == Exit.CONNECTION_LOST and error.startswith("CONNECTION_LOST: ")
