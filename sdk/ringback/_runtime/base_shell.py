"""What the shells of both faces share. `ringback.core.shell.Shell` describes each method."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVarTuple

from ringback._runtime.lifetimes import Lifetime, started
from ringback._runtime.link import Link, Loss
from ringback._runtime.log import caller_of, log, printable
from ringback._runtime.options import EndpointOptions
from ringback._runtime.resolver import Found, resolver
from ringback.core.endpoint import Endpoint
from ringback.core.execution import Execution
from ringback.core.shell import EndpointEvent, Shell
from ringback.errors import UsageError
from ringback.protocol.envelopes import Encoder
from ringback.protocol.frames import Role

Ts = TypeVarTuple("Ts")


MAX_WAITING_PROGRESS = 10_000
"""Progress is dropped while this much waits for the thread of the core."""


class ShellBase(Shell):
    """The link and the listeners of one endpoint.

    Attributes:
        endpoint: the core that this shell runs. It is set once both exist.
        running: whether the endpoint is started.
        listeners: the user's functions for each event.
        process: the process in which the endpoint was started; 0 while it is not.
        foreign: in a forked child, whether the endpoint belongs to the parent process.
        interrupted: whether the endpoint ended because the program was interrupted, as by Ctrl-C.
        lifetime: whether the endpoint is held, or may be collected.
    """

    endpoint: Endpoint

    def __init__(self, options: EndpointOptions) -> None:
        self.running = False
        self.foreign = False
        self.interrupted = False
        self.process = 0
        self._inherited_link: Link | None = None
        self.listeners: dict[EndpointEvent, list[Callable[[Any], Any]]] = {
            event: [] for event in EndpointEvent
        }
        self._options = options
        self._link: Link | None = None
        one_only = options.role is Role.SERVER or options.player_id is not None
        place = (options.role, options.player_id) if one_only else None
        self.lifetime = Lifetime(place, options.addresses)

    def hold_if_needed(self) -> None:
        """Hold the endpoint while it is started and has callbacks or listeners."""
        busy = bool(self.endpoint.registry.handlers) or any(self.listeners.values())
        self.lifetime.hold(self.running and busy)

    @abstractmethod
    def abandon(self) -> None:
        """Close the endpoint soon, without waiting. Any thread may call this, at any point of a program."""

    @abstractmethod
    def wait_until_left(self, timeout_s: float) -> None:
        """Wait until `abandon` is done."""

    @abstractmethod
    def needs_this_thread(self) -> bool:
        """Return whether this endpoint does nothing while the current function blocks its thread."""

    @abstractmethod
    def current_execution(self) -> Execution | None:
        """Return the call whose handler runs in this thread or task; None if none of this endpoint does."""

    @property
    def role(self) -> Role:
        """What this endpoint is."""
        return self._options.role

    @property
    def log_name(self) -> str:
        """What the log calls this endpoint: a process may have many."""
        role, player_id = self._options.role, self.endpoint.player_id
        if role is not Role.PLAYER:
            return role.value
        return "a player without an ID" if player_id is None else f"player {player_id!r}"

    @abstractmethod
    def encoder(self) -> Encoder:
        """Return the encoder of the current thread."""

    @abstractmethod
    def submit(self, function: Callable[[*Ts], None], *arguments: *Ts) -> None:
        """Run a function of the core on the core's thread, soon."""

    def submitting(self, function: Callable[[*Ts], None]) -> Callable[[*Ts], None]:
        """Return a function that submits a function of the core. For those that each call needs."""

        def submit(*arguments: *Ts) -> None:
            self.submit(function, *arguments)

        return submit

    def find_broker(self, broker: str, number: int) -> None:
        found = resolver.find(broker, self, partial(self._found, number))
        if found is not None:
            self._take_addresses(number, found)

    def forget_broker(self) -> None:
        """Ask for no addresses any more: this endpoint is closed."""
        for broker in self._options.addresses:
            resolver.forget(broker, self)

    @abstractmethod
    def _found(self, number: int, found: Found) -> None:
        """Have the core's thread take the addresses of the broker. This runs on a thread of the resolver."""

    def _take_addresses(self, number: int, found: Found) -> None:
        self.endpoint.take_addresses(number, found.addresses, found.problem, time.monotonic())

    def check_process(self) -> None:
        """Raise UsageError in a forked child, if the endpoint belongs to the parent process."""
        if self.foreign:
            raise UsageError(
                f"this endpoint was started in process {self.process} and does not work in a forked child:"
                " create and start an endpoint in the child, for example in gunicorn's post_worker_init"
            )

    def inherited(self) -> None:
        """Let go of the link, in a forked child. Nothing is sent or closed: it is the parent's."""
        self.foreign = True
        self.running = False
        # Kept, so that the collector does not report sockets that nobody closed.
        self._link, self._inherited_link = None, self._link

    def _begin(self) -> None:
        """Take note that the endpoint is started, and belongs to this process from now on."""
        self.process = os.getpid()
        self.running = True
        self.interrupted = False
        started.add(self)
        self.hold_if_needed()

    def _ended(self) -> None:
        """Take note that the endpoint is closed, and may be started in any process."""
        self.running = False
        self.process = 0
        self.lifetime.hold(False)

    def _new_link(self, address: str, heartbeat_ms: int) -> Link:
        options = self._options
        return Link(address, options.role is not Role.PLAYER, heartbeat_ms, options.keys)

    def _take_loss(self, loss: Loss) -> None:
        now = time.monotonic()
        if loss.unauthorized:
            self.endpoint.link_refused(now, loss.why)
        elif loss.hint and not self.endpoint.connected:
            self.endpoint.link_lost(now, f"{loss.why}; {loss.hint}")
        else:
            self.endpoint.link_lost(now, loss.why)

    def send(self, address: bytes, frame: bytes) -> bool:
        return self._link is not None and self._link.send(address, frame)

    def duplicate_reply(self, execution: Execution) -> None:
        self.endpoint.counters.duplicate_replies += 1
        text = "%s: the handler of %r replied a second time to %s; the second reply is ignored"
        key = execution.key
        log.warning(text, self.log_name, key, caller_of(execution), extra={"kind": key})

    def late_progress(self, execution: Execution) -> None:
        self.endpoint.counters.dropped_progress += 1
        text = "%s: the handler of %r reported progress to %s after its reply; it is ignored"
        key = execution.key
        log.warning(text, self.log_name, key, caller_of(execution), extra={"kind": key})

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        key, kind = execution.key, (execution.key, type(error))
        who = self.log_name, key, caller_of(execution)
        log.error("%s: the handler of %r failed for %s", *who, exc_info=error, extra={"kind": kind})

    def user_failed(self, what: str) -> None:
        """Log the exception that is being handled: of a function of the user that nobody waits for."""
        log.exception("%s: %s failed", self.log_name, what, extra={"kind": what})

    def allow_failed(self, key: str, error: BaseException) -> None:
        text = "%s: the allow of %r failed, so the call is forbidden"
        log.error(text, self.log_name, key, exc_info=error, extra={"kind": (key, type(error))})

    def contain(self, what: str, error: BaseException) -> None:
        self.endpoint.counters.faults += 1
        with suppress(BaseException):  # even of a log handler
            extra = {"kind": (what, type(error))}
            log.error("%s: %s failed; the endpoint goes on", self.log_name, what, exc_info=error, extra=extra)

    def warn(self, text: str, *details: object) -> None:
        log.warning(f"%s: {text}", self.log_name, *map(printable, details))
