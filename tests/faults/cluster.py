"""A broker and workers as processes, the faults that a test applies to them, and the histories they write."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, Self, TypeVar

from support import histories
from support.harness import PATIENCE_S, ROOT, BrokerProcess, Process
from support.histories import File, Line, Recorder

from ringback import Operator

WORKER = str(Path(__file__).with_name("worker.py"))
NAMES = str(ROOT / "tests" / "support" / "names.py")

T = TypeVar("T")

SKEW_S = 1.0
"""How late a deadline may take effect on a busy machine. The endpoints' own timers are about 10 ms late."""

LOOK_S = 0.005
"""The time between two reads of the histories. Their writers may be killed, so they announce nothing."""


class Histories:
    """The lines of all processes, read while they are written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[Line] = []
        self._read: dict[Path, int] = {}

    def read_new(self) -> list[Line]:
        """Read the new lines. Return all lines so far."""
        for path in self.folder.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                new, newline, _ = file.read().rpartition(b"\n")  # the last line may not be complete yet
            self._read[path] = self._read.get(path, 0) + len(new) + len(newline)
            self.lines += map(json.loads, new.splitlines())
        return self.lines

    def find(self, since: float = 0.0, **fields: Any) -> list[Line]:
        """Return the lines with these fields. The lines of one life are in the order of time."""
        wanted = fields.items()
        return [line for line in self.read_new() if line["t"] >= since and wanted <= line.items()]

    def wait_for(self, since: float = 0.0, **fields: Any) -> Line:
        """Wait for a line with these fields. Return the first one."""
        wanted = fields.items()
        seen = 0

        def found() -> Line | None:
            nonlocal seen
            new = islice(self.read_new(), seen, None)
            seen = len(self.lines)
            return next((line for line in new if line["t"] >= since and wanted <= line.items()), None)

        return self.wait_until(found, f"a line like {fields}")

    def wait_until(self, check: Callable[[], T | None], what: str) -> T:
        """Wait until `check` returns something true. Return it."""
        until = time.monotonic() + PATIENCE_S
        while not (found := check()):
            if time.monotonic() > until:
                raise AssertionError(f"{what} did not come within {PATIENCE_S:g} s")
            time.sleep(LOOK_S)
        return found

    def check(self, network_s: float) -> list[str]:
        """Return the broken invariants. `network_s` is as in `histories.check`."""
        lines = histories.read(self.folder.glob("*.jsonl"))
        return histories.check(lines, skew_s=SKEW_S, network_s=network_s)


class WorkerProcess(Process):
    """A process that runs `worker.py`. Whatever the test does to it is noted in the histories.

    Args:
        table: the IPs of the names that it knows, see `support/names.py`.

    Attributes:
        names: the names of its endpoints.
        lives: the names of their lives.
        alive: whether the test has not killed it.
        stopped: whether the test has stopped it.
    """

    def __init__(
        self,
        cluster: Cluster,
        role: str,
        names: Iterable[Any],
        *,
        face: str = "asyncio",
        address: str | None = None,
        prefix: tuple[str, ...] = (),
        environment: dict[str, str] | None = None,
        table: dict[str, list[str]] | None = None,
    ) -> None:
        self.names = list(names)
        self.role = role
        self._cluster = cluster
        broker = cluster.broker
        if address is None:
            address = broker.players if role == "player" else broker.backend
        program = (WORKER,) if table is None else (NAMES, json.dumps(table), WORKER)
        super().__init__(
            *program,
            face,
            role,
            address,
            str(cluster.histories.folder),
            str(cluster.seed),
            json.dumps(cluster.targets),
            *map(json.dumps, self.names),
            stdin=subprocess.PIPE,
            prefix=prefix,
            environment=environment,
        )
        self.started_at = time.monotonic()
        self.lives = [f"{name}.{self.popen.pid}" for name in self.names]
        self.alive = True
        self.stopped = False

    def tell(self, command: str, *arguments: Any) -> float:
        """Send the process a command. Return the time at which it was sent."""
        assert self.popen.stdin is not None
        now = time.monotonic()
        self.popen.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.popen.stdin.flush()
        return now

    def wait_for_lives(self, what: str, since: float = 0.0) -> float:
        """Wait until each of its lives has written such a line. Return the time of the last one."""
        return max(self._cluster.histories.wait_for(since, who=who, what=what)["t"] for who in self.lives)

    def stop(self) -> float:
        """Stop the process (SIGSTOP). Return the time."""
        now = self._note("stop")
        self.stopped = True
        self.signal(signal.SIGSTOP)
        return now

    def resume(self) -> float:
        """Let a stopped process continue (SIGCONT). Return the time."""
        self.signal(signal.SIGCONT)
        self.stopped = False
        return self._note("continue")

    def kill(self) -> None:
        """Kill the process (SIGKILL)."""
        if self.alive:
            self.alive = False
            self._note("kill")
        super().kill()

    def _note(self, what: str) -> float:
        for who in self.lives:
            self._cluster.note(who, what)
        return time.monotonic()


def ask_who_is_there(broker: BrokerProcess) -> tuple[set[Any], int]:
    """Return who plays, and how many sessions there are besides the one that asks."""
    with Operator(broker.backend) as operator:
        rows, _ = operator.query("players").result()
        counters = dict(operator.query("counters").result()[0])
    return {row[0] for row in rows}, counters["sessions_begun"] - counters["sessions_ended"] - 1


class Cluster:
    """A broker, and workers that call each other.

    Args:
        folder: the folder for the histories.
        names: the IDs of the players that trusted endpoints call.
        seed: the seed of what the workers do.
        host: the IP that the broker listens on.
        environment: additional variables for the broker.
        broker: one that is there already, for this one to use.
    """

    def __init__(
        self,
        folder: Path,
        names: Iterable[Any] = (),
        *,
        seed: object = 0,
        host: str = "127.0.0.1",
        environment: dict[str, str] | None = None,
        broker: BrokerProcess | None = None,
    ) -> None:
        self.histories = Histories(folder)
        self.targets = [*names, "nobody"]
        self.seed = seed
        self.workers: list[WorkerProcess] = []
        self._write = File(folder / "test.jsonl")
        self._stack = ExitStack()
        address = f"tcp://{host}:0"
        self.broker = broker or self._stack.enter_context(
            BrokerProcess(address, address, ("--insecure",), environment)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def note(self, who: str, what: str) -> None:
        Recorder(who, self._write).note(what)

    def begin(self, role: str, *names: Any, **options: Any) -> WorkerProcess:
        """Start a worker."""
        worker = WorkerProcess(self, role, names or (role,), **options)
        self._stack.callback(worker.kill)
        self.workers.append(worker)
        return worker

    def start(self, role: str, *names: Any, **options: Any) -> WorkerProcess:
        """Start a worker. Wait until all its lives are connected."""
        worker = self.begin(role, *names, **options)
        worker.wait_for_lives("connected")
        return worker

    @property
    def alive(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers if worker.alive]

    def kill_broker(self) -> float:
        """Kill the broker (SIGKILL). Return the time."""
        now = time.monotonic()
        self.broker.process.kill()
        return now

    def start_broker(self) -> float:
        """Start the broker again, on the same addresses. Return the time at which it was ready."""
        self.broker.process.kill()  # in case it still runs; this also closes the pipes
        self.broker.start()
        return time.monotonic()

    def stop_broker(self) -> None:
        """Stop the broker (SIGSTOP)."""
        self.note("broker", "stop")
        self.broker.process.signal(signal.SIGSTOP)

    def resume_broker(self) -> None:
        """Let a stopped broker continue (SIGCONT)."""
        self.broker.process.signal(signal.SIGCONT)
        self.note("broker", "continue")

    def wait_until_all_work(self, since: float) -> float:
        """Wait until each life has had a result after the time `since`. Return the time of the last one."""
        lives = [who for worker in self.alive for who in worker.lives]
        return max(self.histories.wait_for(since, who=who, what="complete", code=None)["t"] for who in lives)

    def quiet(self) -> None:
        """End the load. Wait until the last calls have ended."""
        told = [(worker, worker.tell("quiet")) for worker in self.alive]
        for worker, since in told:
            worker.wait_for_lives("quiet", since)

    def rest(self) -> None:
        """End the load. Let each life note what is left. Wait until the broker has only their sessions."""
        self.quiet()
        told = [(worker, worker.tell("rest")) for worker in self.alive]
        for worker, since in told:
            worker.wait_for_lives("rest", since)
        players = {name for worker in self.alive if worker.role == "player" for name in worker.names}
        trusted = sum(worker.role != "player" for worker in self.alive)
        expected = players, len(players) + trusted
        self.histories.wait_until(
            lambda: self.who_is_there() == expected or None, "the end of all other sessions at the broker"
        )

    def who_is_there(self) -> tuple[set[Any], int]:
        """Return who plays, as the broker says, and how many sessions it has."""
        return ask_who_is_there(self.broker)

    def verdict(self, *, network_s: float = 0.0) -> None:
        """Check the histories of all processes. Check that no process has failed.

        Args:
            network_s: how long the test made the network delay frames, in seconds.
        """
        problems = self.histories.check(network_s)
        assert not problems, "\n".join([f"{len(problems)} problems", *problems[:20]])
        for worker in self.alive:
            assert worker.popen.poll() is None, worker.output()
