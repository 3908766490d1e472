"""Logs stay readable: equal lines fold, and each line says which endpoint and whose call it is about."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.faces import FACES, Face, HereBroker, LogLines, Stage, sdk_log
from support.harness import ENVIRONMENT, PATIENCE_S, BrokerProcess

from ringback._runtime.log import folding
from ringback.aio import Player
from ringback.log_folding import MAX_KINDS, FoldingFilter, LineFolds

__all__ = ["sdk_log"]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Log:
    """A logger of its own with the filter, and the lines that it writes."""

    def __init__(self, name: str) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.records: list[logging.LogRecord] = []
        self.logger = logging.getLogger(name)
        self.logger.propagate = False
        handler = logging.Handler()
        handler.emit = self._emit  # type: ignore[method-assign]
        self.logger.addHandler(handler)
        self.filter = FoldingFilter(self.logger, self.clock)

    def _emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.lines.append(record.getMessage())


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    log = Log(f"test.{request.node.name}")
    yield log
    log.logger.handlers.clear()
    log.filter.reset()


def test_a_hundred_equal_lines_fold_into_one_with_a_count(log: Log) -> None:
    for number in range(100):
        log.logger.warning("player %d lost its link", number)
    log.logger.warning("something else")
    assert log.lines == ["player 0 lost its link", "something else"]
    log.clock.now = 5.0
    log.logger.warning("player %d lost its link", 100)
    assert log.lines[2:] == [
        "99 more lines like this one: player 0 lost its link",
        "player 100 lost its link",
    ]
    log.logger.warning("player %d lost its link", 101)
    log.filter.over()
    assert len(log.lines) == 4
    log.clock.now = 10.0
    log.filter.over()
    log.filter.over()
    assert log.lines[4:] == ["1 more line like this one: player 100 lost its link"]
    assert [record.levelname for record in log.records] == ["WARNING"] * 5


def test_levels_and_kinds_are_told_apart_and_bounded(log: Log) -> None:
    for _ in range(3):
        log.logger.warning("it failed")
        log.logger.error("it failed")
        log.logger.error("it failed", extra={"kind": "another"})
    assert len(log.lines) == 3
    for number in range(MAX_KINDS):
        log.logger.error("it failed", extra={"kind": number})
    assert log.lines.count("2 more lines like this one: it failed") == 3  # the oldest windows made room
    assert len(log.lines) == 3 + MAX_KINDS + 3


def test_the_last_count_is_written_at_the_end(log: Log) -> None:
    for _ in range(3):
        log.logger.warning("it failed")
    log.filter.finish()
    log.filter.finish()
    assert log.lines == ["it failed", "2 more lines like this one: it failed"]


def test_a_text_that_cannot_be_made_does_not_raise(log: Log) -> None:
    class Mean(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    log.logger.handlers.clear()
    log.logger.addHandler(logging.NullHandler())
    log.logger.warning("it failed: %s", Mean())


def test_a_burst_is_written_whole() -> None:
    folds = LineFolds(burst=3)
    assert [folds.take("k", 30, "text", 0.0)[0] for _ in range(5)] == [True, True, True, False, False]
    assert [str(folded) for folded in folds.finish()] == ["2 more lines like this one: text"]


PROGRAM = """
import logging
from ringback._runtime.log import log
for _ in range(100):
    log.warning("it failed")
"""


def test_the_end_of_a_process_writes_the_count() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        timeout=PATIENCE_S,
        check=True,
    )
    assert done.stderr.splitlines() == ["it failed", "99 more lines like this one: it failed"]


@pytest.fixture
def here() -> Iterator[HereBroker]:
    with HereBroker() as broker:
        yield broker


@pytest.mark.parametrize("face", FACES, ids=lambda face: face.name)
def test_a_failed_handler_is_logged_with_its_caller(face: Face, here: HereBroker, sdk_log: LogLines) -> None:
    def fail(source: Any, payload: Any) -> None:
        raise RuntimeError("the shelf is empty")

    def fail_at_player(payload: Any) -> None:
        raise RuntimeError("the shelf is empty")

    async def run() -> None:
        async with Stage(face, here) as stage:
            server, player = await stage.pair()
            operator = await stage.operator()
            server.register_server_callback("shop:buy", fail)
            player.register_client_callback("local:fail", fail_at_player)
            for _ in range(100):
                await stage.failure(player.trigger_server_callback("shop:buy"))
            text = r"server: the handler of 'shop:buy' failed for player 7 \(call \d+\)$"
            record = await sdk_log.wait_for(text)
            assert record.exc_info and "the shelf is empty" in str(record.exc_info[1])
            assert len([text for _, text, _ in sdk_log.seen.items if "shop:buy" in text]) == 1
            folding.finish()
            await sdk_log.wait_for("^99 more lines like this one: server: the handler of 'shop:buy' failed")
            await stage.failure(operator.trigger_callback("shop:buy", "console"))
            await sdk_log.wait_for(r"failed for operator \d+ in the name of 'console' \(call \d+\)$")
            folding.reset()
            await stage.failure(server.trigger_callback("shop:buy", 9))
            await sdk_log.wait_for("failed for this server in the name of 9 ")
            await stage.failure(server.trigger_client_callback("local:fail", 7))
            at_player = "player 7: the handler of 'local:fail' failed for "
            await sdk_log.wait_for(rf"{at_player}the server \(call \d+\)$")
            folding.reset()
            await stage.failure(operator.trigger_client_callback("local:fail", 7))
            await sdk_log.wait_for(rf"{at_player}operator \d+ ")

    asyncio.run(run())


def test_a_line_within_a_line_is_written(log: Log) -> None:
    """A signal handler, or what the collector ends, may log while the same thread counts a line."""
    within = False

    def clock() -> float:
        nonlocal within
        if not within:
            within = True
            log.logger.warning("within")
            log.filter.over()
            within = False
        return 0.0

    log.filter = FoldingFilter(log.logger, clock)
    log.logger.filters[:] = [log.filter]

    def work() -> None:
        for _ in range(3):
            log.logger.warning("outer")
        log.filter.finish()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert log.lines == ["within", "outer", "within", "within", "2 more lines like this one: outer"]


def test_a_process_with_many_players_stays_readable(broker: BrokerProcess, sdk_log: LogLines) -> None:
    async def run() -> None:
        players = [Player(broker.players, number) for number in range(1, 51)]
        await asyncio.gather(*(player.start() for player in players))
        lost = asyncio.Semaphore(0)
        for player in players:
            player.on_disconnected(lambda reason: lost.release())
        broker.process.kill()
        for _ in players:
            await asyncio.wait_for(lost.acquire(), PATIENCE_S)
        texts = [text for _, text, _ in sdk_log.seen.items]
        found = [text for text in texts if "was lost" in text and "more line" not in text]
        assert len(found) <= 2  # one; another if the losses took longer than a window
        pattern = rf"player \d+: the link to {broker.players} was lost \(.*\); next attempt in [\d.]+ s"
        assert re.fullmatch(pattern, found[0])
        for player in players:
            await player.close()
        folding.finish()
        texts = [text for _, text, _ in sdk_log.seen.items if "was lost" in text]
        counts = [int(text.split()[0]) for text in texts if "more line" in text]
        assert sum(counts) + len(found) >= len(players)

    asyncio.run(run())
