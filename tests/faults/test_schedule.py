"""Random faults on real processes under load. Then all faults end, and each endpoint has to come to rest.

`make faults SECONDS=600 SEED=7` runs a longer schedule. Processes have their own pace. So a seed gives the
same faults at about the same times, but not the same run. If the test fails, it keeps its folder.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from faults.cluster import Cluster, WorkerProcess
from faults.network import Namespace, NoNamespace

from ringback.testing.proxy import NONE, STALLED, Faults, Proxy

SECONDS = float(os.environ.get("FAULTS_SECONDS") or 4)
SEED = os.environ.get("FAULTS_SEED") or "1"

LONGEST_S = 4.0
"""The longest time that a fault lasts. Heartbeats find a silent peer within half of it."""

NETWORK_S = 2 * LONGEST_S
"""How late a frame may arrive after a fault, in seconds. TCP doubles its wait before each new try."""

PACE_S = 0.02 if "FAULTS_SECONDS" in os.environ else 0.06
"""How long a worker waits between two calls. In `make test`, other tests run beside this one."""

Undo = Callable[[], object]


class Workers:
    """Workers under load, each of which can be started again.

    Attributes:
        random: the source of all that is random.
        cluster: what they run in.
        makers: a function for each that starts it.
        workers: those that run.
    """

    def __init__(self, seed: str, cluster: Cluster, makers: list[Callable[[], WorkerProcess]]) -> None:
        self.random = random.Random(seed)
        self.cluster = cluster
        self.makers = makers
        self.workers: list[WorkerProcess] = []

    def start(self) -> None:
        """Start all workers under load. Wait until each has had a result."""
        for make in self.makers:
            self.workers.append(make())
        for worker in self.workers:
            worker.wait_for_lives("connected")
            worker.tell("load", 2, PACE_S)
        self.cluster.wait_until_all_work(time.monotonic())


class Scene(Workers):
    """A server, an operator, and players of both faces: some behind proxies, some in a network namespace."""

    def __init__(self, folder: Path, stack: ExitStack, seed: str) -> None:
        self.namespace: Namespace | None = None
        try:
            self.namespace = stack.enter_context(Namespace())
        except NoNamespace as reason:
            print(f"no link will be cut: {reason}")
        far = ["far 1", "far 2"] if self.namespace else []
        names = [1, 2, 3, "ann", "bob", "cat", *far]
        host = self.namespace.host if self.namespace else "127.0.0.1"
        super().__init__(seed, stack.enter_context(Cluster(folder, names, seed=seed, host=host)), [])
        broker = self.cluster.broker
        self.proxies = [
            stack.enter_context(Proxy(broker.backend)),
            stack.enter_context(Proxy(broker.players)),
        ]
        self._server_face = self.random.choice(("asyncio", "blocking"))
        begin = self.cluster.begin
        self.makers += [
            partial(begin, "server", face=self._server_face, address=self.proxies[0].address),
            partial(begin, "operator"),
            partial(begin, "player", 1, 2, 3, address=self.proxies[1].address),
            partial(begin, "player", "ann", "bob"),
            partial(begin, "player", "cat", face="blocking"),
        ]
        if self.namespace:
            self.makers.append(partial(begin, "player", *far, prefix=self.namespace.prefix))

    def descriptors(self) -> int:
        """Return the number of the broker's open descriptors: one for each connection, and its own."""
        return len(list((self._proc / "fd").iterdir()))

    def memory_mib(self) -> float:
        """Return the memory of the broker in MiB."""
        [line] = [line for line in (self._proc / "status").read_text().splitlines() if "VmRSS" in line]
        return int(line.split()[1]) / 1024

    @property
    def _proc(self) -> Path:
        return Path(f"/proc/{self.cluster.broker.process.popen.pid}")


class Schedule:
    """A random schedule of faults of workers. Several faults overlap, but never two on the same thing.

    Attributes:
        done: what was done, a line for each fault.
    """

    def __init__(self, workers: Workers) -> None:
        self.done: list[str] = []
        self._workers = workers
        self._random = workers.random
        self._cluster = workers.cluster
        self._undo: dict[object, tuple[float, Undo]] = {}
        self._began = time.monotonic()

    def run(self, seconds: float) -> None:
        """Begin faults for this time. Return when all of them are undone."""
        while (now := time.monotonic()) < self._began + seconds:
            self._undo_until(now + self._random.uniform(0.0, 0.8))
            thing = self._random.choice(self._things())
            if thing not in self._undo:
                self._fault(thing)
        self._undo_until(float("inf"))

    def _undo_until(self, until: float) -> None:
        """Undo the faults that are due by then, each at its time."""
        while self._undo:
            thing = min(self._undo, key=lambda thing: self._undo[thing][0])
            due_at, undo = self._undo[thing]
            if due_at > until:
                break
            time.sleep(max(0.0, due_at - time.monotonic()))
            del self._undo[thing]
            undo()
        if until < float("inf"):
            time.sleep(max(0.0, until - time.monotonic()))

    def _fault(self, thing: object) -> None:
        name, undo = self._begin(thing)
        lasts_s = self._random.uniform(0.0, LONGEST_S)
        self._undo[thing] = (time.monotonic() + lasts_s, undo)
        self._say(f"{name} for {lasts_s:.1f} s")

    def _say(self, text: str) -> None:
        self.done.append(f"{time.monotonic() - self._began:6.1f} s: {text}")

    def _things(self) -> list[object]:
        """Return what may fail. What is there twice fails twice as often."""
        return list(range(len(self._workers.makers)))

    def _begin(self, thing: object) -> tuple[str, Undo]:
        """Begin a fault of a thing. Return what it is, and how it ends."""
        assert isinstance(thing, int)
        return self._worker_fault(thing)

    def _worker_fault(self, number: int) -> tuple[str, Undo]:
        worker = self._workers.workers[number]
        names = ", ".join(worker.lives)
        if self._random.random() < 0.5:
            worker.stop()
            return f"{names} stopped", worker.resume
        worker.kill()
        return f"{names} killed", partial(self._start_again, number)

    def _start_again(self, number: int) -> None:
        worker = self._workers.workers[number] = self._workers.makers[number]()
        worker.tell("load", 2, PACE_S)  # the worker obeys once it is connected


class SceneSchedule(Schedule):
    """Faults of the workers, the broker and the network of a scene."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene)
        self.scene = scene

    def _things(self) -> list[object]:
        workers, proxies = super()._things(), self.scene.proxies
        things = ["broker", *workers, *workers, *proxies, *proxies, self.scene.namespace]
        return [thing for thing in things if thing is not None]

    def _begin(self, thing: object) -> tuple[str, Undo]:
        if isinstance(thing, Proxy):
            return self._proxy_fault(thing)
        if isinstance(thing, Namespace):
            thing.down()
            return "link down", thing.up
        return self._broker_fault() if thing == "broker" else super()._begin(thing)

    def _broker_fault(self) -> tuple[str, Undo]:
        cluster = self._cluster
        kind = self._random.choice(("kill", "stop", "drain"))
        if kind == "stop":
            cluster.stop_broker()
            return "broker stopped", cluster.resume_broker
        if kind == "kill":
            cluster.kill_broker()
        else:
            cluster.broker.process.signal(signal.SIGTERM)  # start_broker kills it if it has not ended by then
        return f"broker: {kind}", cluster.start_broker

    def _proxy_fault(self, proxy: Proxy) -> tuple[str, Undo]:
        faults = self._random.choice(
            (STALLED, Faults(delay_s=0.5), Faults(slice_bytes=1), Faults(bytes_per_s=50_000), None, None)
        )
        side = "server's" if proxy is self.scene.proxies[0] else "players'"
        if faults is None:
            reset = self._random.random() < 0.5
            proxy.cut(reset=reset)
            return f"{side} connections {'reset' if reset else 'closed'}", lambda: None
        proxy.set_faults(faults)
        return f"{side} network {faults}", partial(proxy.set_faults, NONE)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder that the test deletes only when it passes."""
    folder = Path(tempfile.mkdtemp(prefix="ringback-faults-"))
    yield folder


@pytest.mark.timeout(SECONDS + 120)
def test_random_faults(folder: Path, measure: Callable[..., None]) -> None:
    print(f"FAULTS_SEED={SEED} FAULTS_SECONDS={SECONDS:g}, histories in {folder}")
    with ExitStack() as stack:
        scene = Scene(folder, stack, SEED)
        scene.start()
        descriptors = scene.descriptors()
        schedule = SceneSchedule(scene)
        try:
            schedule.run(SECONDS)
        finally:
            print(*schedule.done, sep="\n")
        healed_at = time.monotonic()
        recovered_s = scene.cluster.wait_until_all_work(healed_at) - healed_at
        measure(f"{len(schedule.done)} random faults: each endpoint has a result after", recovered_s)
        scene.cluster.rest()
        scene.cluster.histories.wait_until(
            lambda: scene.descriptors() == descriptors,
            "the end of all other connections at the broker",
        )
        calls = len(scene.cluster.histories.find(what="invoke"))
        measure(f"broker's memory after {calls} calls amid random faults", scene.memory_mib(), "MiB")
        scene.cluster.verdict(network_s=NETWORK_S)
    shutil.rmtree(folder)
