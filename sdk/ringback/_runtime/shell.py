"""What the shells of both faces share; see `ringback.core.shell.Shell` for what each method is for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ringback._runtime.handlers import log, log_duplicate
from ringback._runtime.link import Link, Loss
from ringback.core.calls import Execution
from ringback.core.endpoint import Endpoint
from ringback.core.shell import EndpointEvent, Shell
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits

if TYPE_CHECKING:
    from ringback._runtime.link_keys import Token
    from ringback.credentials import KeyPair

Listeners = Mapping[EndpointEvent, list[Callable[[Any], Any]]]


class ShellBase(Shell):
    """The link of one endpoint, and what is known of its user.

    Attributes:
        endpoint: the core that this is the shell of; set once both are made.
        running: whether it is started.
    """

    endpoint: Endpoint

    def __init__(
        self,
        address: str,
        role: Role,
        limits: Limits,
        listeners: Listeners,
        keys: KeyPair | None,
        token: Token | None,
    ) -> None:
        self.running = False
        self._keys = keys
        self._token = token
        self._address = address
        self._trusted = role is not Role.PLAYER
        self._limits = limits
        self._listeners = listeners
        self._link: Link | None = None

    def _new_link(self, heartbeat_ms: int) -> Link:
        return Link(self._address, self._trusted, heartbeat_ms, self._keys)

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
        log_duplicate(execution)

    def handler_failed(self, execution: Execution, error: Exception) -> None:
        log.error("the handler of %r failed", execution.key, exc_info=error)

    def allow_failed(self, key: str, error: BaseException) -> None:
        log.error("the allow of %r failed, so the call is forbidden", key, exc_info=error)

    def warn(self, text: str) -> None:
        log.warning(text)
