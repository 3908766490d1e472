"""A process with a server, players or an operator. They call other endpoints and write histories.

    python worker.py blocking|asyncio server|player|operator ADDRESS FOLDER SEED TARGETS NAME...

TARGETS is a JSON list of the player IDs that a trusted endpoint calls. Each NAME is an endpoint, in JSON. Its
life has the name NAME.PID. The process writes the history FOLDER/PID.jsonl. It has the lines that
`support/histories.py` describes, and `connected`, `disconnected`, `joined`, `left` and `quiet`.

A line on standard input is a command: a JSON list of the name of a method of `Worker`, and its arguments.
Standard output is for tracebacks.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import random
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

from support.histories import File, Recorder

import ringback
import ringback.aio
from ringback import CallbackError, LinkError

FACES = {"blocking": ringback, "asyncio": ringback.aio}
KEY = "do"
PACE_S = 0.02
"""How long a caller waits between two calls on average, in seconds."""

REST_WITHIN_S = 10.0
LONGEST_CALL_S = 2.0

KINDS = {"echo": 60, "work": 20, "fail": 8, "never": 4, "nest": 8}
"""What handlers do, and how frequent each kind is. `echo`: reply at once. `work`: reply after a while.
`fail`: raise an error of the application's own. `never`: do not reply. `nest`: call the caller, reply."""

STORM = {"echo": 60, "work": 30, "fail": 10}
"""The kinds of calls that are tried again. Each has an outcome soon if its handler runs."""

PATIENT_S = 120.0
"""The timeout of calls that are tried again: longer than all ten restarts take on a busy machine."""

Command = list[Any]


class Life:
    """One endpoint, from the start of its process to the end."""

    def __init__(self, worker: Worker, role: str, name: Any, address: str) -> None:
        self.worker = worker
        self.role = role
        self.name = name
        self.record = Recorder(f"{name}.{os.getpid()}", worker.write)
        self.random = random.Random(f"{worker.seed} {name}")
        self.quiet = asyncio.Event()
        self.retry = False
        self._numbers = count(1)
        self._lock = threading.Lock()
        self._open = 0
        self.record.start(role, name)
        face = FACES[worker.face]
        if role == "player":
            self.endpoint: Any = face.Player(address, player_id=name)
            register = self.endpoint.register_client_callback
        elif role == "server":
            self.endpoint = face.Server(address)
            register = self.endpoint.register_server_callback
            self.endpoint.on_player_joined(lambda player: self.record.note("joined", player=player))
            self.endpoint.on_player_left(lambda player: self.record.note("left", player=player))
        else:
            self.endpoint = face.Operator(address)
            register = None
        self.endpoint.on_connected(lambda _: self.record.note("connected"))
        self.endpoint.on_disconnected(lambda reason: self.record.note("disconnected", reason=reason))
        if register is not None:
            handler = self._handle_async if worker.face == "asyncio" else self._handle
            # ringback counts the arguments of a handler. A player's handler gets no source.
            if role == "player":
                handler = functools.partial(handler, None)
            register(KEY, handler)

    async def start(self) -> None:
        """Start the endpoint. Try again while there is no broker, or while another life has the same name."""
        while True:
            try:
                await self._run(self.endpoint.start)
                return
            except LinkError:
                await asyncio.sleep(0.05)

    async def _run(self, function: Any) -> Any:
        """Run a function of the endpoint's face, and wait for its end."""
        if self.worker.face == "asyncio":
            return await function()
        return await asyncio.to_thread(function)

    # -- handling calls

    async def _handle_async(self, source: Any, payload: Any, cb: Any) -> None:
        call = payload["call"]
        self.record.exec_start(call, source, payload)
        if payload["kind"] == "work":
            await asyncio.sleep(payload["s"])
        elif payload["kind"] == "nest" and source is not None:
            await self.call(source, "echo", 1.0)
        self._reply(payload, cb)

    def _handle(self, source: Any, payload: Any, cb: Any) -> None:
        self.record.exec_start(payload["call"], source, payload)
        if payload["kind"] == "work":
            time.sleep(payload["s"])
        elif payload["kind"] == "nest" and source is not None:
            call, name = self._trigger(source, "echo", 1.0)
            self._complete(name, call)
        self._reply(payload, cb)

    def _reply(self, payload: Any, cb: Any) -> None:
        if payload["kind"] == "fail":
            raise CallbackError("the item is sold out", code="SOLD_OUT")
        if payload["kind"] != "never":
            result = {"call": payload["call"], "fill": payload["fill"]}
            self.record.exec_end(payload["call"], [result])
            cb(result)

    # -- making calls

    async def load(self, pace_s: float) -> None:
        """Make one call after the other, until the test ends the load."""
        while not self.quiet.is_set():
            timeout_s = PATIENT_S if self.retry else self.random.choice((0.2, 1.0, LONGEST_CALL_S))
            kinds = STORM if self.retry else KINDS
            kind = self.random.choices(list(kinds), list(kinds.values()))[0]
            cancel = not self.retry and self.random.random() < 0.03
            await self.call(self._target(), kind, timeout_s, cancel)
            await asyncio.sleep(self.random.uniform(0.0, 2 * pace_s))

    def _target(self) -> Any:
        if self.role == "player" or self.random.random() < 0.2:
            return "server"
        return self.random.choice(self.worker.targets)

    async def call(self, to: Any, kind: str, timeout_s: float, cancel: bool = False) -> None:
        call, name = self._trigger(to, kind, timeout_s)
        if cancel:
            await asyncio.sleep(0.01)
            call.cancel()
        if self.worker.face == "asyncio":
            try:
                await call
            except CallbackError:
                pass
            finally:  # if this task is cancelled, its call is cancelled too
                self._complete(name, call)
        else:
            await asyncio.to_thread(self._complete, name, call)

    def _trigger(self, to: Any, kind: str, timeout_s: float) -> tuple[Any, str]:
        with self._lock:  # in the blocking face, handlers make calls in threads of their own
            self._open += 1
            name = f"{self.record.who}#{next(self._numbers)}"
            size = int(self.random.paretovariate(0.7)) % 20_000
            payload = {"call": name, "kind": kind, "s": self.random.uniform(0.0, 0.1), "fill": bytes(size)}
        endpoint = self.endpoint
        options: Any = {"timeout": timeout_s, "retry": self.retry}
        if self.role == "player":
            self.record.invoke(name, to, self.name, timeout_s, payload, retry=self.retry)
            return endpoint.trigger_server_callback(KEY, payload, **options), name
        if to == "server":
            # The caller names the source. That player need not be connected.
            source = self.worker.targets[size % len(self.worker.targets)]
            self.record.invoke(name, to, source, timeout_s, payload, retry=self.retry)
            return endpoint.trigger_callback(KEY, source, payload, **options), name
        self.record.invoke(name, to, None, timeout_s, payload, retry=self.retry)
        return endpoint.trigger_client_callback(KEY, to, payload, **options), name

    def _complete(self, name: str, call: Any) -> None:
        error = call.error
        if error is None:
            self.record.result(name, list(call.results))
        else:
            self.record.error(name, error.code_name, error.executed)
        with self._lock:
            self._open -= 1

    # -- resting

    def tables(self) -> dict[str, int]:
        load = self.endpoint._endpoint.load()
        return {
            "open": self._open,
            "pending": load.pending,
            "calls": load.calls,
            "executions": load.executions,
            "returned": load.returned,
            "waiting": load.waiting,
            "outgoing": load.queued,
            "queued_bytes": load.queued_bytes,
            "tasks": len(self.endpoint._shell._tasks) if self.worker.face == "asyncio" else 0,
        }

    async def rest(self) -> None:
        """Wait until the tables are empty, but not for ever. Note what is left in them."""
        until = time.monotonic() + REST_WITHIN_S
        while any(self.tables().values()) and time.monotonic() < until:  # noqa: ASYNC110 (no event says so)
            await asyncio.sleep(0.02)
        counters = self.endpoint.counters
        names = type(counters).__slots__
        # Each try is counted, and the histories have the calls.
        counts = {} if self.retry else {name: getattr(counters, name) for name in names}
        self.record.rest(self.tables(), counts)


class Worker:
    """All endpoints of the process. Its public methods are the commands."""

    def __init__(
        self,
        face: str,
        role: str,
        address: str,
        folder: str,
        seed: str,
        targets: str,
        *names: str,
    ) -> None:
        self.face = face
        self.seed = seed
        self.targets = json.loads(targets)
        self.write = File(Path(folder) / f"{os.getpid()}.jsonl")
        self._lives = [Life(self, role, json.loads(name), address) for name in names]
        self._loads: list[asyncio.Task[None]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self) -> None:
        """Start all endpoints. Obey commands until standard input ends."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(256))
        await asyncio.gather(*(life.start() for life in self._lives))
        while line := await asyncio.to_thread(sys.stdin.readline):
            command, *arguments = json.loads(line)
            task = asyncio.create_task(getattr(self, command)(*arguments))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        task.result()

    async def load(self, callers: int, pace_s: float = PACE_S) -> None:
        """Let each endpoint make calls, with this number of callers at a time."""
        for life in self._lives:
            life.quiet.clear()
            self._loads += (asyncio.create_task(life.load(pace_s)) for _ in range(callers))

    async def storm(self, callers: int) -> None:
        """Let each endpoint make calls that are tried again, one after the other in each of its callers."""
        for life in self._lives:
            life.retry = True
        await self.load(callers, 0.001)

    async def call(self, name: Any, to: Any, kind: str, timeout_s: float) -> None:
        """Let one endpoint make one call."""
        [life] = [life for life in self._lives if life.name == name]
        await life.call(to, kind, timeout_s)

    async def quiet(self) -> None:
        """End the load. Wait until all its calls have ended."""
        for life in self._lives:
            life.quiet.set()
        await asyncio.gather(*self._loads)
        self._loads.clear()
        for life in self._lives:
            life.record.note("quiet")

    async def rest(self) -> None:
        """Note what is left in the tables of each endpoint. It should be nothing."""
        await asyncio.gather(*(life.rest() for life in self._lives))

    async def close(self) -> None:
        """Close all endpoints."""
        for life in self._lives:
            await life._run(life.endpoint.close)
            life.record.note("close")


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    asyncio.run(Worker(*sys.argv[1:]).run())
