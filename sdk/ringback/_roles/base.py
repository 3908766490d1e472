"""What a server, a player and an operator have in common: state, listeners, and how a call is triggered.

A face adds how an endpoint starts and ends, how a handler runs, and how a program waits for a call.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from itertools import count
from random import Random, SystemRandom
from secrets import token_bytes
from typing import Any, Generic, Literal, NoReturn, TypeVar
from weakref import WeakMethod

from ringback._roles.calls import CallBase
from ringback._roles.groups import GroupBase
from ringback._roles.trigger_options import Callback, OnError, OnProgress, check_functions
from ringback._roles.typed_calls import Outgoing, TypedCallBase
from ringback._runtime import call_context
from ringback._runtime.base_shell import ShellBase
from ringback._runtime.lifetimes import warn_unclosed
from ringback._runtime.options import EndpointOptions
from ringback._version import __version__
from ringback.contracts import wrong_key
from ringback.core.counters import EndpointCounters
from ringback.core.endpoint import Endpoint
from ringback.core.pending_call import PendingCall
from ringback.core.progress import Progress
from ringback.core.registry import Registry, check_flag
from ringback.core.retried_call import Tries
from ringback.core.retry import Retry
from ringback.core.shell import EndpointEvent
from ringback.core.signatures import check_takes
from ringback.errors import CallbackError, CallTimeout, stripped
from ringback.protocol.contexts import PROGRESS, bounded
from ringback.protocol.envelopes import EncodedOnce
from ringback.protocol.frames import FrameType
from ringback.protocol.names import check_key
from ringback.protocol.repeats import TOKEN_BYTES

C = TypeVar("C", bound=CallBase[Any])
G = TypeVar("G", bound=GroupBase[Any])
F = TypeVar("F", bound=Callable[..., object])
Send = Callable[[PendingCall, FrameType | None, bytes, bytes], None]
"""Sends a call. The arguments are those of `Routes.call`."""

RETRY = Retry()
"""What `retry=True` means."""

_LISTENS_TO = {
    EndpointEvent.CONNECTED: "address",
    EndpointEvent.DISCONNECTED: "reason",
    EndpointEvent.PLAYER_JOINED: "player_id",
    EndpointEvent.PLAYER_LEFT: "player_id",
    EndpointEvent.ACTING: "acting",
}
"""What a listener is called with."""


class RoleBase(ABC, Generic[C, G]):
    """What all roles have in both faces."""

    _call_class: type[C]
    _typed_class: type[TypedCallBase[Any]]
    _module: str
    """The name of the module that users import the face by."""

    def __init__(self, options: EndpointOptions, shell: ShellBase) -> None:
        unguessable = SystemRandom()
        self._options = options
        self._ids = count(unguessable.getrandbits(62) + 1)
        self._shell = shell
        shell.lifetime.belongs_to(self)
        keys_changed = WeakMethod(self._keys_changed)  # the core must not hold the endpoint

        def changed() -> None:
            shell.hold_if_needed()
            tell = keys_changed()
            if tell is not None:
                tell()

        # Bound once: each call uses both.
        self._encoder, self._submit = shell.encoder, shell.submit
        self._endpoint = shell.endpoint = Endpoint(
            options.role,
            shell,
            brokers=options.addresses,
            player_id=options.player_id,
            limits=options.accepts,
            software=f"ringback-python/{__version__}",
            heartbeat_ms=options.heartbeat_ms,
            needs_token=options.token is not None,
            standby=options.standby,
            keys_changed=changed,
            random=Random(unguessable.getrandbits(64)).random,  # noqa: S311 - spreads retries, no secret
        )
        self._send: Send = shell.submitting(self._endpoint.call)
        self._max_call_bytes = options.accepts.max_call_bytes

    @abstractmethod
    def _make_group(self) -> G: ...

    @abstractmethod
    def _new_progress(self, call: C, on_progress: OnProgress | None) -> Progress: ...

    @abstractmethod
    def _check_running(self) -> None: ...

    @abstractmethod
    def _keys_changed(self) -> None: ...

    # -- state

    def __repr__(self) -> str:
        if not hasattr(self, "_endpoint"):
            return f"<{self._module}.{type(self).__name__} whose constructor failed>"
        return f"<{self._name()} {self._state()}>"

    def __del__(self) -> None:
        shell: ShellBase | None = getattr(self, "_shell", None)  # none if the constructor failed
        if shell is not None and shell.running:
            shell.abandon()
            warn_unclosed(self._name(), self)

    def _name(self) -> str:
        """Return the class and the arguments that tell this endpoint from others. Secrets are not in it."""
        kind = type(self)
        module = self._module if kind.__module__.startswith("ringback.") else kind.__module__
        player_id = self._endpoint.player_id
        addresses = self.addresses
        arguments = repr(list(addresses) if len(addresses) > 1 else self.address)
        if player_id is not None:
            arguments += f", {player_id!r}"
        return f"{module}.{kind.__qualname__}({arguments})"

    def _state(self) -> str:
        if self._shell.foreign:
            return "of the parent process"
        if self.connected:
            return "connected" if len(self.addresses) == 1 else f"connected to {self.address}"
        if not self._shell.running:
            return "not started, or closed"
        ended = self._endpoint.ended
        return f"ended: {ended}" if ended else "connecting"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"a {type(self).__name__} cannot be copied or pickled: it has a link of its own. Construct one in"
            " the process that uses it"
        )

    @property
    def address(self) -> str:
        """The broker's address, as it was passed to the constructor.

        Of several, it is the one of the present link. Without a link, it is the one that was tried last, or
        will be tried first.
        """
        return self._endpoint.broker

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses that were passed to the constructor, in their order there."""
        return self._options.addresses

    @property
    def _log_name(self) -> str:
        return self._shell.log_name

    @property
    def _interrupted(self) -> bool:
        return self._shell.interrupted

    def _leaves(self, kind: type[BaseException] | None) -> None:
        """Take note of how a program leaves the `with` block of this endpoint.

        After Ctrl-C, sys.exit() or a cancel it can no longer look at its calls, and need not.
        """
        self._shell.interrupted = kind is not None and not issubclass(kind, Exception)

    @property
    def link_address(self) -> str | None:
        """The address of the present link, with an IP in place of a name; None while there is no link."""
        return self._endpoint.link_address

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this endpoint and the link is up."""
        return self._shell.running and self._endpoint.connected

    @property
    def counters(self) -> EndpointCounters:
        """What this endpoint has counted since it was created."""
        return self._endpoint.counters

    def on_connected(self, listener: F) -> F:
        """Call `listener(address)` each time the broker has welcomed this endpoint.

        Also usable as a decorator.

        Args:
            listener: a function of `address`, a str. It may be a coroutine function.

        Returns:
            The listener.

        Raises:
            TypeError: the listener is not a function of one argument.
        """
        return self._listen(EndpointEvent.CONNECTED, listener)

    def on_disconnected(self, listener: F) -> F:
        """Call `listener(reason)` each time the link is lost.

        Also usable as a decorator. The endpoint connects again by itself, except after REPLACED and KICKED.

        Args:
            listener: a function of the reason, a str for people. It may be a coroutine function.

        Returns:
            The listener.

        Raises:
            TypeError: the listener is not a function of one argument.
        """
        return self._listen(EndpointEvent.DISCONNECTED, listener)

    @property
    def _registry(self) -> Registry:
        self._shell.check_process()
        return self._endpoint.registry

    def _listen(self, event: EndpointEvent, listener: F) -> F:
        self._shell.check_process()
        check_takes(listener, (_LISTENS_TO[event],), "listener")
        self._shell.listeners[event].append(listener)
        self._shell.hold_if_needed()
        return listener

    # -- triggering

    def _trigger(
        self,
        kind: FrameType | None,
        encoded_id: bytes,
        key: str,
        payload: object,
        callback: Callback | None,
        on_error: OnError | None,
        timeout: float | None,
        send: Send | None = None,
        asks: OnProgress | Literal[True] | None = None,
        typed: Outgoing | None = None,
        once: EncodedOnce | None = None,
    ) -> C:
        """Trigger a callback.

        Args:
            send: a function that sends the call; None: it leaves at once, or fails.
            asks: True: the call asks for progress; a function: it gets the progress; None: it asks for none.
            typed: what makes a call of a contract; None: a call without types.
            once: what encodes this call as one of many; None: it is alone.
        """
        self._check_running()
        try:
            check_key(key)
        except TypeError as error:
            raise wrong_key(key, error, "trigger") from None
        now = time.monotonic()
        deadline, budget_ms = call_context.deadline_and_budget(timeout, now)
        make: Callable[..., C] = self._call_class if typed is None else typed.maker(self._typed_class)
        call = make(next(self._ids), key, deadline, callback, on_error, now, self)
        if callback is not None or on_error is not None:
            check_functions(callback, on_error)
            call._context = call_context.clean_context()
        tracer = call_context.tracer
        context = None if tracer is None else tracer.triggered(call, kind, encoded_id)
        if asks is not None:
            context = bounded({PROGRESS: "1"}, context or {})
            call._progress = self._new_progress(call, None if asks is True else asks)
            call.add_waiter(call._progress.end)
        try:
            if budget_ms == 0:
                raise CallTimeout("the call had no time left, so it was not sent", executed="no")
            encoder = self._encoder() if typed is None else typed.encoder(self._encoder())
            if once is None:
                envelope = encoder.call(call.id, key, payload, budget_ms, context)
            else:
                envelope = once.call(encoder.call, call.id, key, payload, budget_ms, context)
        except CallbackError as error:
            self._submit(self._endpoint.fail_unsent, call, stripped(error))
        else:
            (send or self._send)(call, kind, encoded_id, envelope)
        return call

    def _way(self, wait_for_room: bool, retry: bool | Retry | None, bounded: bool = True) -> Send | None:
        """Return how a call leaves that may wait for room, or be tried again; None: at once.

        Args:
            bounded: whether the number of calls that wait may forbid it; see `WaitingRoom.add`.

        Raises:
            TypeError: `retry` or `wait_for_room` has the wrong type.
        """
        check_flag("wait_for_room", wait_for_room)
        if retry is None or retry is False:
            return partial(self._send_when_room, bounded) if wait_for_room else None
        if retry is not True and not isinstance(retry, Retry):
            raise TypeError(f"retry must be True, False, None or a Retry, not {type(retry).__name__}")
        return partial(self._send_with_retry, RETRY if retry is True else retry, wait_for_room, bounded)

    def _send_when_room(
        self, bounded: bool, call: PendingCall, kind: FrameType | None, encoded_id: bytes, envelope: bytes
    ) -> None:
        self._submit(self._endpoint.call_when_room, call, kind, encoded_id, envelope, bounded)

    def _send_with_retry(
        self,
        retry: Retry,
        wait_for_room: bool,
        bounded: bool,
        call: PendingCall,
        kind: FrameType | None,
        encoded_id: bytes,
        envelope: bytes,
    ) -> None:
        tries = Tries(retry, token_bytes(TOKEN_BYTES), partial(next, self._ids), wait_for_room, bounded)
        self._submit(self._endpoint.call_with_retry, call, kind, encoded_id, envelope, tries)

    def _wait_for_room(self, timeout: float | None) -> C:
        """Return a call that ends, without a result, once there is room for calls."""
        self._check_running()
        now = time.monotonic()
        deadline, _ = call_context.deadline_and_budget(timeout, now)
        call = self._call_class(next(self._ids), "ready to call", deadline, None, None, now, self)
        self._submit(self._endpoint.wait_for_room, call)
        return call

    def cancel_call(self, call: PendingCall) -> None:
        """Cancel a call, for `Call.cancel`. Not for users."""
        self._submit(self._endpoint.cancel, call)
