"""The log of a broker, when nobody reads it."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zmq
from support.harness import ENVIRONMENT, PATIENCE_S, READY, BrokerProcess, eventually
from support.rawpeers import RawPeer

from ringback import Operator, Player
from ringback.protocol.frames import Role
from ringback_broker.daemon.logs import WaitingLog
from ringback_cli.exits import Exit

COMMAND = ("-m", "ringback_cli", "broker", "--players=tcp://127.0.0.1:0", "--backend=tcp://127.0.0.1:0")
PIPE_BYTES = 4096


def test_a_log_that_nobody_reads_does_not_stop_the_broker() -> None:
    broker = subprocess.Popen(
        [sys.executable, *COMMAND], stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, bufsize=1
    )
    assert broker.stderr is not None
    match = re.search(READY, broker.stderr.readline())
    assert match is not None
    fcntl.fcntl(broker.stderr, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    context: zmq.Context[Any] = zmq.Context()
    with Operator(match[2]) as operator:
        for _ in range(100):  # each makes two lines of a hundred bytes
            with RawPeer(context, match[1]) as peer:
                peer.join(Role.PLAYER)
        rows, _ = operator.query("counters").result()
        assert dict(rows)["sessions_begun"] == 101
    context.term()
    broker.send_signal(signal.SIGTERM)
    assert broker.wait(PATIENCE_S) == Exit.OK
    broker.stderr.close()


@pytest.fixture
def pipe() -> Any:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reading, writing
    os.close(reading)


def test_dropped_lines_are_counted(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = WaitingLog(writing, max_waiting=10)
    handled, read = 0, b""

    def log_line(text: str) -> None:
        nonlocal handled
        handled += 1
        log.handle(logging.makeLogRecord({"msg": text}))

    for number in range(1000):
        log_line(f"{number:0100}")

    def reported() -> bool:
        nonlocal read
        log_line("more")
        read += os.read(reading, 1 << 16)
        return b"were dropped" in read

    eventually(reported, "a line counts the dropped lines")
    log.close()
    os.close(writing)
    while rest := os.read(reading, 1 << 16):
        read += rest
    dropped = sum(map(int, re.findall(rb"(\d+) lines of the log were dropped", read)))
    assert dropped > 900
    assert dropped + len(re.findall(rb"^(?:0\d{99}|more)$", read, re.MULTILINE)) == handled


def test_close_writes_all_lines_in_order(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    log = WaitingLog(writing)
    for number in range(200):
        log.handle(logging.makeLogRecord({"msg": str(number)}))
    log.handle(logging.makeLogRecord({"msg": "odd: \udcff"}))
    log.close()
    os.close(writing)
    lines = os.read(reading, 1 << 16).decode().splitlines()
    assert lines == [*map(str, range(200)), r"odd: \udcff"]


def test_a_descriptor_that_does_not_block_loses_no_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    log = WaitingLog(writing)
    read = b""
    for number in range(500):
        log.handle(logging.makeLogRecord({"msg": f"{number:0100}"}))

    def all_read() -> bool:
        nonlocal read
        read += os.read(reading, 1 << 16)
        return len(read) == 500 * 101

    eventually(all_read, "every line is written")
    log.close()
    os.close(writing)


def test_an_audit_log_that_has_no_room_for_a_while(tmp_path: Path) -> None:
    """The log says so. Then the audit log counts the lines that it lost, and all its lines can be read."""
    path = tmp_path / "audit"
    with BrokerProcess(options=("--audit", str(path))) as broker:
        pid = broker.process.popen.pid

        def come_and_go(name: str) -> None:
            with Player(broker.players, name):
                pass

        come_and_go("before")
        eventually(lambda: path.read_text().count("left") == 1, "the lines of the first player")
        no_limit = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        room = path.stat().st_size + 40  # half a line
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (room, no_limit[1]))
        for number in range(5):
            come_and_go(f"meanwhile {number}")
        broker.process.wait_for("WARNING .* the audit log cannot be written, and loses lines: File too large")
        resource.prlimit(pid, resource.RLIMIT_FSIZE, no_limit)
        come_and_go("after")
        eventually(lambda: "lines dropped" in path.read_text(), "the audit log counts the lost lines")
        broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() == Exit.OK
    lines, torn = [], 0
    for line in path.read_text().splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            torn += 1
    assert torn == 1
    [lost] = [line for line in lines if line["event"] == "lines dropped"]
    assert lost["reason"] == "File too large"
    assert len(lines) - 1 + lost["lines"] == 2 * 7  # seven players joined and left


def test_a_line_that_cannot_be_written_is_counted_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    full = os.open("/dev/full", os.O_WRONLY)
    log = WaitingLog(full)
    for number in range(3):
        log.handle(logging.makeLogRecord({"msg": str(number)}))
    eventually(lambda: log.unwritten == 3, "the lines could not be written")
    os.dup2(descriptor, full)
    log.close()
    os.close(full)
    os.close(descriptor)
    assert path.read_text() == "3 lines of the log were dropped: No space left on device\n"
