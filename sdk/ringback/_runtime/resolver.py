"""The resolver of a process: finds the IPs of a broker's host name, on threads of its own.

libzmq looks names up on its one I/O thread, which also carries the heartbeats of all links. A slow name there
stalls every link of the process. So links only ever see numeric addresses.
"""

from __future__ import annotations

import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from ringback._runtime.log import log
from ringback.protocol.addresses import in_turn, is_numeric, split_tcp
from ringback.systems import in_forked_child

MAX_THREADS = 32
"""How many names are looked up at the same time. A name that does not answer holds one of these threads."""


class Asker(Protocol):
    """The shell, as the resolver sees it."""

    @property
    def log_name(self) -> str:
        """What the log calls this endpoint."""
        ...


Answer = Callable[[list[str], str], None]
"""A function of the IPs of a name, and of the reason if there is none."""


class Found(NamedTuple):
    """The outcome of a lookup: numeric addresses in the order to try them, or why there are none."""

    addresses: tuple[str, ...]
    problem: str = ""


class Resolver:
    """Looks each name up once at a time: whoever asks meanwhile gets the same answer. It keeps no answers.

    The threads are daemons and end when nothing is left to do, so nothing waits for a lookup that hangs.
    """

    def __init__(self) -> None:
        self._begin()
        in_forked_child(self._begin)

    def _begin(self) -> None:
        """Begin anew. The threads and askers of the parent process do not exist in a forked child."""
        # The collector may end a forgotten endpoint, which then forgets its question, while this thread asks.
        self._lock = threading.RLock()
        self._asked: dict[str, dict[Asker, Answer]] = {}
        self._names: deque[str] = deque()
        self._threads = 0

    def find(self, address: str, asker: Asker, answer: Callable[[Found], None]) -> Found | None:
        """Return the numeric addresses for an address that needs no lookup: an IP, or an `ipc://` path.

        Otherwise return None, and give them to `answer` later, on a thread of the resolver. `answer` must not
        block. Whoever asks again before that gets only the latter answer.

        Args:
            asker: who asks, for `forget`.
        """
        if is_numeric(address):
            return _numeric(address)
        host, port = split_tcp(address)

        def named(ips: list[str], problem: str) -> None:
            answer(Found(in_turn(ips, port), problem and _explain(host, problem)))

        self._ask(host, asker, named)
        return None

    def forget(self, address: str, asker: Asker) -> None:
        """Give this asker no answer any more. Nothing is kept for it, however long the lookup takes."""
        if is_numeric(address):
            return
        name, _ = split_tcp(address)
        with self._lock:
            askers = self._asked.get(name, {})
            askers.pop(asker, None)
            if not askers and name in self._names:  # it waits for a thread
                self._names.remove(name)
                del self._asked[name]

    def _ask(self, name: str, asker: Asker, answer: Answer) -> None:
        with self._lock:
            if (others := self._asked.get(name)) is not None:
                others[asker] = answer
                return
            self._asked[name] = {asker: answer}
            self._names.append(name)
            if self._threads >= MAX_THREADS:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._work, name="ringback-resolver", daemon=True).start()
        except RuntimeError:  # the system has no thread left
            with self._lock:
                self._threads -= 1
                if self._threads:  # another thread takes the name later
                    return
                self._names.clear()  # nobody else has put a name there without a thread
                asked, self._asked = self._asked, {}
            for answers in asked.values():
                _tell(answers, [], "the system has no thread left")

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._names:
                    self._threads -= 1
                    return
                name = self._names.popleft()
            ips, problem = look_up(name)
            with self._lock:
                answers = self._asked.pop(name)
            _tell(answers, ips, problem)


def look_up(name: str) -> tuple[list[str], str]:
    """Return the IPs of a name in the system's order (RFC 6724), or no IP and the reason."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        ips = [str(where[0]) for family, *_, where in found if family in (socket.AF_INET, socket.AF_INET6)]
    except OSError as error:
        return [], error.strerror or str(error)
    except BaseException as error:  # such as UnicodeError. Nothing may end this thread.
        return [], f"{type(error).__name__}: {error}"
    return ips, "" if ips else "it has no address"


def _explain(name: str, problem: str) -> str:
    return f"the name {name!r} cannot be resolved: {problem}; check the spelling, or DNS"


def _numeric(address: str) -> Found:
    """Check the interface of an address such as `fe80::1%eth0`. libzmq says nothing if there is none."""
    scope = address.partition("%")[2].partition("]")[0] if address.startswith("tcp://[") else ""
    if scope and not scope.isdecimal():
        try:
            socket.if_nametoindex(scope)
        except OSError:
            return Found((), f"this machine has no network interface {scope!r}")
    return Found((address,))


def _tell(answers: Mapping[Asker, Answer], ips: list[str], problem: str) -> None:
    for asker, answer in answers.items():
        try:
            answer(ips, problem)
        except Exception:
            log.exception("%s: the addresses of the broker cannot be taken", asker.log_name)


resolver = Resolver()
"""The resolver of this process."""
