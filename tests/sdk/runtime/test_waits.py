"""Each wait of the blocking face ends, also when the I/O thread cannot end it."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.faces import HereBroker, Stage, played
from support.harness import PATIENCE_S, Process

from ringback import CallTimeout, Operator, Player, Server
from ringback._runtime.blocking_shell import STOP_S
from ringback._runtime.wait_times import GRACE_S


def test_a_blocked_io_thread_keeps_no_caller(here: HereBroker, caplog: pytest.LogCaptureFixture) -> None:
    go, blocked = threading.Event(), threading.Event()

    def allow(source: Any) -> bool:
        blocked.set()
        return go.wait(PATIENCE_S * 3)

    server, player = Server(here.backend).start(), Player(here.players, 7).start()
    try:
        server.register_server_callback("guarded", lambda source, payload: payload, allow=allow)
        answered = player.trigger_server_callback("guarded", 1, timeout=PATIENCE_S * 3)
        assert blocked.wait(PATIENCE_S)
        waits: list[Callable[[], Any]] = [
            server.trigger_client_callback("any", 7, timeout=0.1).result,
            server.trigger_all_client_callbacks("any", players=[7], timeout=0.1).all,
        ]
        for wait in waits:
            begun = time.monotonic()
            with pytest.raises(CallTimeout, match="`allow` function"):
                wait()
            assert time.monotonic() - begun < GRACE_S + PATIENCE_S
        begun = time.monotonic()
        server.close()
        assert time.monotonic() - begun < STOP_S + PATIENCE_S
        assert "server: the I/O thread has not ended" in caplog.text
    finally:
        go.set()
        server.close()
        player.close()
    assert answered.done() or answered.error is not None


@played
async def test_calls_with_odd_timeouts_end(stage: Stage) -> None:
    server, player = await stage.pair()
    server.register_server_callback("echo", lambda source, payload: payload)
    for timeout in (None, math.inf, 1e18, 10**30, 9.9e8):
        assert await stage.result(player.trigger_server_callback("echo", 1, timeout=timeout)) == 1
    for timeout in (0, 0.0):
        assert isinstance(
            await stage.failure(player.trigger_server_callback("echo", 1, timeout=timeout)), CallTimeout
        )


@played
async def test_timeouts_that_mean_nothing_are_refused(stage: Stage) -> None:
    player = await stage.player(7)
    for timeout in (-1, -0.001, -math.inf, math.nan, -(10**30)):
        with pytest.raises(ValueError, match="timeout must be 0 or more seconds"):
            player.trigger_server_callback("echo", 1, timeout=timeout)


def test_a_group_in_the_only_worker_ends(here: HereBroker) -> None:
    """The list of players comes in a worker, and the only one waits for it."""
    ended: list[BaseException | None] = []
    over = threading.Event()

    def on_connected(_: str) -> None:
        try:
            operator.trigger_all_client_callbacks("any", timeout=0.1).all()
            ended.append(None)
        except BaseException as error:
            ended.append(error)
        over.set()

    operator = Operator(here.backend, workers=1, max_threads=1)
    operator.on_connected(on_connected)
    with operator:
        assert over.wait(GRACE_S + PATIENCE_S)
    assert ended[0] is None or isinstance(ended[0], CallTimeout)


WAITING_PROGRAM = """
import sys, threading
from ringback import Player

CALLS = 50
player = Player(sys.argv[1]).start()
calls = [player.trigger_server_callback("never", timeout=0.5) for _ in range(CALLS)]
waiting = threading.Barrier(2 * CALLS + 1)
ended, raised = [], []

def wait(what):
    waiting.wait()
    try:
        ended.append(str(what()))
    except Exception as error:
        raised.append(repr(error))

waits = [lambda call=call: call.error for call in calls]
waits += [call.future().exception for call in calls]
threads = [threading.Thread(target=wait, args=(what,)) for what in waits]
for thread in threads:
    thread.start()
waiting.wait()
sys.stdout.write("waiting\\n")
for thread in threads:
    thread.join()
sys.stdout.write(f"{len(ended)} ended, {len(raised)} raised; {sorted(set(ended + raised))}\\n")
player.close()
"""


def test_a_process_that_was_stopped_blames_no_function(here: HereBroker) -> None:
    """Its threads that wait may run before the I/O thread ends the calls, whose time is long over."""
    with Server(here.backend) as server:
        server.register_server_callback("never", lambda source, payload, cb: None)
        with Process("-c", WAITING_PROGRAM, here.players) as process:
            process.wait_for("^waiting$")
            process.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.popen.pid, os.WSTOPPED)
            time.sleep(GRACE_S + 1)  # not to wait for anything: this is how long it stands still
            process.signal(signal.SIGCONT)
            [said] = process.wait_for("^(.* raised; .*)$").groups()
    assert said.startswith("100 ended, 0 raised"), said
