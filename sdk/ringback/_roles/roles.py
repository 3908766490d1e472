"""The functions of a server, a player and an operator: the same in both faces.

A face adds how to start, how a handler is run, and how one waits for a call.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from functools import lru_cache, partial
from itertools import count
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from ringback._roles.calls import CallBase
from ringback._roles.groups import GroupBase
from ringback._runtime import context as _context
from ringback._runtime.context import DEFAULT_TIMEOUT_S
from ringback._runtime.link_keys import Token, link_keys
from ringback._runtime.shell import ShellBase
from ringback._version import __version__
from ringback.core.calls import PendingCall
from ringback.core.counters import EndpointCounters
from ringback.core.endpoint import Endpoint
from ringback.core.permissions import Allow
from ringback.core.registry import Registration, check_terms
from ringback.core.shell import EndpointEvent
from ringback.errors import CallbackError, CallTimeout
from ringback.protocol.addresses import check_address
from ringback.protocol.control import Order, Subject, What
from ringback.protocol.envelopes import MAX_ID, Encoder
from ringback.protocol.frames import FrameType, Role
from ringback.protocol.limits import (
    MAX_GRACE_S,
    MAX_HEARTBEAT_S,
    MAX_REASON_CHARS,
    PLAYER_HEARTBEAT_S,
    TRUSTED_HEARTBEAT_S,
    Limits,
)
from ringback.protocol.names import check_key
from ringback.protocol.player_ids import PlayerID, check_player_id, encode_player_id
from ringback.protocol.reports import MAX_WATCH_S

if TYPE_CHECKING:
    from os import PathLike

    from ringback.credentials import KeyPair

C = TypeVar("C", bound=CallBase)
G = TypeVar("G", bound=GroupBase[Any])
F = TypeVar("F", bound=Callable[..., Any])
Callback = Callable[..., Any]
OnError = Callable[[CallbackError], Any]

MAX_CHECKED_KEYS = 4096
MAX_ADDRESSES = 16_384


class Face(ABC, Generic[C, G]):
    """What all roles have in both faces."""

    _role: Role
    _shell: ShellBase
    _call_class: type[C]

    def __init__(
        self,
        address: str,
        *,
        player_id: PlayerID | None = None,
        limits: Limits | None = None,
        connect_timeout: float = 5.0,
        heartbeat: float | None = None,
        key_file: str | PathLike[str] | KeyPair | None = None,
        broker_key: str | None = None,
        token: Token | None = None,
    ) -> None:
        self._address = check_address(address, bind=False)
        if player_id is not None:
            if self._role is not Role.PLAYER:
                raise TypeError(f"only a player has a player_id, not a {self._role}")
            check_player_id(player_id)
        if limits is not None and not isinstance(limits, Limits):
            raise TypeError(f"limits is a ringback.Limits, not {type(limits).__name__}")
        timeout = _context.check_timeout(connect_timeout)
        if not timeout:
            raise ValueError(f"connect_timeout is a number of seconds above 0, not {connect_timeout}")
        self._connect_timeout_s = timeout
        self._limits = limits or Limits()
        self._keys = link_keys(self._role, key_file, broker_key, token)
        self._token = token
        self._listeners: dict[EndpointEvent, list[Callable[[Any], Any]]] = {
            event: [] for event in EndpointEvent
        }
        unguessable = SystemRandom()
        self._ids = count(unguessable.getrandbits(62) + 1)
        self._checked_keys: set[str] = set()
        self._shell = self._make_shell()
        self._endpoint = Endpoint(
            self._role,
            self._shell,
            broker=self._address,
            player_id=player_id,
            limits=self._limits,
            software=f"ringback-python/{__version__}",
            heartbeat_ms=_heartbeat_ms(heartbeat, self._role),
            needs_token=token is not None,
            keys_changed=self._keys_changed,
            random=Random(unguessable.getrandbits(64)).random,  # noqa: S311 - spreads retries, no secret
        )
        self._shell.endpoint = self._endpoint

    @abstractmethod
    def _make_shell(self) -> ShellBase: ...

    def _shell_arguments(self) -> tuple[Any, ...]:
        return self._address, self._role, self._limits, self._listeners, self._keys, self._token

    @abstractmethod
    def _make_group(self) -> G: ...

    @abstractmethod
    def _encoder(self) -> Encoder: ...

    @abstractmethod
    def _check_running(self) -> None: ...

    @abstractmethod
    def _submit(self, function: Callable[..., None], *arguments: Any) -> None:
        """Has a function of the core run on its thread."""

    @abstractmethod
    def _keys_changed(self) -> None: ...

    # -- state

    @property
    def address(self) -> str:
        """The broker's address, as it was given."""
        return self._address

    @property
    def connected(self) -> bool:
        """Whether the link to the broker stands now."""
        return self._endpoint.connected

    @property
    def counters(self) -> EndpointCounters:
        """What this endpoint has counted so far."""
        return self._endpoint.counters

    def on_connected(self, listener: F) -> F:
        """Has `listener(address)` called whenever the broker has welcomed this endpoint. Decorates too."""
        return self._listen(EndpointEvent.CONNECTED, listener)

    def on_disconnected(self, listener: F) -> F:
        """Has `listener(reason)` called whenever the link is lost; it is opened again by itself."""
        return self._listen(EndpointEvent.DISCONNECTED, listener)

    def _listen(self, event: EndpointEvent, listener: F) -> F:
        if not callable(listener):
            raise TypeError(f"a listener is a function, not {type(listener).__name__}")
        self._listeners[event].append(listener)
        return listener

    # -- triggering

    def _trigger(
        self,
        kind: FrameType | None,
        address: bytes,
        key: str,
        payload: Any,
        callback: Callback | None,
        on_error: OnError | None,
        timeout: float | None,
    ) -> C:
        self._check_running()
        if type(key) is not str or key not in self._checked_keys:
            check_key(key)
            if len(self._checked_keys) < MAX_CHECKED_KEYS:
                self._checked_keys.add(key)
        if callback is not None or on_error is not None:
            _check_functions(callback, on_error)
        now = time.monotonic()
        deadline, budget_ms = _context.deadline_and_budget(timeout, now)
        call = self._call_class(self, next(self._ids), key, deadline, callback, on_error, now)
        tracer = _context.tracer
        context = None if tracer is None else tracer.triggered(call, kind, address)
        try:
            if budget_ms == 0:
                raise CallTimeout("there was no time for the call at all", executed="no")
            envelope = self._encoder().call(call.id, key, payload, budget_ms, context)
        except CallbackError as error:
            self._submit(self._endpoint.fail_unsent, call, error)
        else:
            self._submit(self._endpoint.call, call, kind, address, envelope)
        return call

    def _question(
        self,
        what: str,
        timeout: float | None,
        callback: Callback | None = None,
        on_error: OnError | None = None,
    ) -> C:
        """Gives the call for a question to the broker itself."""
        now = time.monotonic()
        deadline, _ = _context.deadline_and_budget(timeout, now)
        return self._call_class(self, next(self._ids), what, deadline, callback, on_error, now)

    def cancel_call(self, call: PendingCall) -> None:
        """What `Call.cancel` does."""
        self._submit(self._endpoint.cancel, call)


class _Triggering(Face[C, G]):
    """What the trusted side triggers."""

    def trigger_client_callback(
        self,
        key: str,
        player_id: PlayerID,
        payload: Any = None,
        callback: Callback | None = None,
        *,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> C:
        """Triggers a callback that a player has registered.

        Args:
            key: of the callback, 1 to 256 bytes.
            player_id: whose callback.
            payload: None, bool, int, float, str, bytes, list or dict of these; at most 1 MiB encoded.
            callback: called with the results, on success.
            on_error: called with the `CallbackError` otherwise. Where there is a callback and no
                on_error, a failure is logged.
            timeout: seconds, None for no limit. In a handler at most what is left to it.

        Returns:
            The call. Whatever becomes of it, it ends exactly once.

        Raises:
            TypeError, ValueError: an argument is not of the right form.
            UsageError: this endpoint is not started, or closed.
        """
        return self._trigger(FrameType.DATA, _address(player_id), key, payload, callback, on_error, timeout)

    def trigger_callback(
        self,
        key: str,
        source: PlayerID,
        payload: Any = None,
        callback: Callback | None = None,
        *,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> C:
        """Triggers a server callback in the name of a source.

        On a server: one that is registered there, without a way through the broker. On an operator:
        one that the server has registered. The handler is given `source`, which need not be
        connected. Other arguments, results and errors are those of `trigger_client_callback`.
        """
        return self._trigger(self._source_route, _address(source), key, payload, callback, on_error, timeout)

    _source_route: FrameType | None

    def trigger_all_client_callbacks(
        self,
        key: str,
        payload: Any = None,
        *,
        players: Iterable[PlayerID] | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> G:
        """Triggers a callback on many players.

        Args:
            players: their IDs; None for all that are connected now.
            timeout: seconds for all of it, None for no limit.

        Returns:
            A group: iterate it for (player ID, call) as the calls end, or take `all()`, a dict of
            every player's call. Each call has results or an error of its own.
        """
        self._check_running()
        check_key(key)
        group = self._make_group()
        until, _ = _context.deadline_and_budget(timeout, time.monotonic())

        def trigger(player_id: PlayerID) -> C:
            return self.trigger_client_callback(key, player_id, payload, timeout=_left(until))

        if players is None:
            tracer = _context.tracer  # the calls belong to what is traced here, and not where the list comes
            begin = partial(group.begin, trigger if tracer is None else tracer.keep(trigger))
            self._list_players(begin, group.fail, until)
        else:
            group.begin(trigger, [check_player_id(player_id) for player_id in players])
        return group

    @abstractmethod
    def _list_players(
        self, then: Callable[[list[PlayerID]], None], failed: OnError, until: float | None
    ) -> None: ...


class ServerFace(_Triggering[C, G]):
    """The functions of the one server."""

    _role = Role.SERVER
    _source_route = None

    @overload
    def register_server_callback(
        self,
        key: str,
        handler: None = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        allow: Allow | None = None,
        limit: str | None = None,
    ) -> Callable[[F], F]: ...

    @overload
    def register_server_callback(
        self,
        key: str,
        handler: Callback,
        *,
        replace: bool = False,
        in_thread: bool = False,
        allow: Allow | None = None,
        limit: str | None = None,
    ) -> Registration: ...

    def register_server_callback(
        self,
        key: str,
        handler: Any = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        allow: Allow | None = None,
        limit: str | None = None,
    ) -> Any:
        """Registers a callback that players trigger.

        Args:
            key: 1 to 256 bytes.
            handler: a function of (source, payload, cb), which answers by `cb(*results)`, or of
                (source, payload), which answers by what it returns; plain or async. `source` is the
                player's ID as the broker knows it. Without a handler this decorates one.
            replace: whether it may take the place of one that is registered.
            in_thread: of the asyncio face: the handler blocks, so run it in a thread.
            allow: who may call it; anybody else gets FORBIDDEN, and the handler does not run. A set, list or
                tuple of player IDs (copied), a function of (source) that gives a bool, or `OPERATORS`: no
                player at all. For an operator's call the first two are asked about the source that it names.
                The function is called on the I/O thread (asyncio: on the loop): it must not block nor wait
                for calls. Where it raises, or gives no bool, the call is forbidden, and that is logged.
            limit: how often one caller may call it: "5/s", "100/min", "0.5/h", with a burst of the number and
                of at least one. What is over it gets RATE_LIMITED, with `data["retry_after"]` in seconds. A
                caller is a player, or an operator in the name of one source.

        Neither counts for `trigger_callback` of this server itself.

        Returns:
            A handle with `unregister()`; as a decorator, the function itself.

        Raises:
            TypeError: the key, the handler, `allow` or `limit` is not of the right form.
            ValueError: the key is too long, or registered already; an ID in `allow` is out of range; `limit`
                is another text.
        """
        return _register(
            self._endpoint, key, handler, replace=replace, in_thread=in_thread, allow=allow, limit=limit
        )

    @property
    def players(self) -> list[PlayerID]:
        """The IDs of the players connected now, in the order in which they joined."""
        return list(self._endpoint.players)

    def on_player_joined(self, listener: F) -> F:
        """Has `listener(player_id)` called for each player that joins, and for those already there when
        the server connects. Decorates too."""
        return self._listen(EndpointEvent.PLAYER_JOINED, listener)

    def on_player_left(self, listener: F) -> F:
        """Has `listener(player_id)` called for each player that leaves, or is out of reach since the link
        was lost. Decorates too."""
        return self._listen(EndpointEvent.PLAYER_LEFT, listener)

    def _list_players(
        self, then: Callable[[list[PlayerID]], None], failed: OnError, until: float | None
    ) -> None:
        then(self.players)


class PlayerFace(Face[C, G]):
    """The functions of a player."""

    _role = Role.PLAYER

    @property
    def player_id(self) -> PlayerID | None:
        """This player's ID: the one asked for, or the one that the broker gave once started."""
        return self._endpoint.player_id

    @overload
    def register_client_callback(
        self,
        key: str,
        handler: None = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        limit: str | None = None,
    ) -> Callable[[F], F]: ...

    @overload
    def register_client_callback(
        self,
        key: str,
        handler: Callback,
        *,
        replace: bool = False,
        in_thread: bool = False,
        limit: str | None = None,
    ) -> Registration: ...

    def register_client_callback(
        self,
        key: str,
        handler: Any = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        limit: str | None = None,
    ) -> Any:
        """Registers a callback that the server triggers on this player.

        `handler` is a function of (payload, cb) or (payload). A caller that `limit` counts is the server, or
        an operator. All else is as in `Server.register_server_callback`.
        """
        return _register(self._endpoint, key, handler, replace=replace, in_thread=in_thread, limit=limit)

    def trigger_server_callback(
        self,
        key: str,
        payload: Any = None,
        callback: Callback | None = None,
        *,
        on_error: OnError | None = None,
        timeout: float | None = DEFAULT_TIMEOUT_S,
    ) -> C:
        """Triggers a callback that the server has registered.

        Arguments, results and errors are those of `Server.trigger_client_callback`.
        """
        return self._trigger(FrameType.DATA, b"", key, payload, callback, on_error, timeout)


class OperatorFace(_Triggering[C, G]):
    """The functions of an operator: a trusted program beside the server."""

    _role = Role.OPERATOR
    _source_route = FrameType.RELAY

    def query(self, subject: Subject | str, *, after: int = 0, timeout: float | None = 5.0) -> C:
        """Asks the broker for a page of "players", "callbacks", "counters", "events" or "calls".

        docs/protocol.md says what a row of each has. "calls" are those that are watched: see `watch`.

        Returns:
            A call with two results: the rows, and the `after` of the next page (None at the end).
        """
        self._check_running()
        subject = Subject(subject)
        if type(after) is not int:
            raise TypeError(f"after is an int, not {type(after).__name__}")
        if not 0 <= after <= MAX_ID:
            raise ValueError(f"after is 0 to 2**64-1, not {after}")
        call = self._question(f"query {subject}", timeout)
        self._submit(self._endpoint.query, call, subject, after)
        return call

    def kick(self, player_id: PlayerID, reason: str = "", *, timeout: float | None = 5.0) -> C:
        """Has the broker end the session of a player, which hears the reason and stays away.

        To keep somebody out, take its key off the list.

        Args:
            player_id: who has to leave.
            reason: for that player and the log; at most 200 characters of it are kept.

        Returns:
            A call without a result.

        Raises:
            UnknownPlayer: no such player is connected.
            Forbidden: the list withholds orders from this operator.
        """
        self._check_running()
        if type(reason) is not str:
            raise TypeError(f"reason is a str, not {type(reason).__name__}")
        reason = reason.encode(errors="replace").decode()[:MAX_REASON_CHARS]
        return self._order(What.KICK, timeout, player_id=check_player_id(player_id), reason=reason)

    def drain(self, grace: float | None = None, *, timeout: float | None = 5.0) -> C:
        """Has the broker drain and stop, as SIGTERM does: nobody joins, and calls in flight may end.

        Args:
            grace: seconds that this may take at most; None: what the broker's settings say.

        Returns:
            A call without a result; it ends when the broker has begun.

        Raises:
            Forbidden: the list withholds orders from this operator.
        """
        self._check_running()
        if grace is None:
            return self._order(What.DRAIN, timeout)
        if type(grace) not in (int, float):
            raise TypeError(f"grace is a number of seconds or None, not {type(grace).__name__}")
        if not 0 < grace <= MAX_GRACE_S:
            raise ValueError(f"grace is seconds above 0, at most {MAX_GRACE_S}, or None, not {grace}")
        return self._order(What.DRAIN, timeout, grace_ms=round(1000 * grace))

    def watch(
        self,
        player_id: PlayerID | None = None,
        key: str | None = None,
        *,
        payloads: bool = False,
        log: bool = False,
        for_s: float = 10.0,
        timeout: float | None = 5.0,
    ) -> C:
        """Has calls be reported to the broker one by one, for `query("calls")`; it keeps the latest 1000.

        Args:
            player_id: those from and to this player; None: of any.
            key: those of keys like this, with *, ? and [...] as in a shell; None: any.
            payloads: whether to report what they carry, up to 4 KiB each way.
            log: whether the broker writes them into its log.
            for_s: seconds, at most a day; 0: not any more.

        Returns:
            A call without a result.

        Raises:
            Forbidden: the list withholds orders from this operator.
            Overloaded: the broker keeps 16 watches, and no more.
        """
        self._check_running()
        if type(for_s) not in (int, float) or not 0 <= for_s <= MAX_WATCH_S:
            raise ValueError(f"for_s is seconds from 0 to {MAX_WATCH_S}, not {for_s!r}")
        return self._order(
            What.WATCH,
            timeout,
            player_id=None if player_id is None else check_player_id(player_id),
            key=None if key is None else check_key(key),
            payloads=bool(payloads),
            log=bool(log),
            for_ms=round(1000 * for_s),
        )

    def _order(self, what: What, timeout: float | None, **said: Any) -> C:
        call = self._question(what.value, timeout)
        self._submit(self._endpoint.order, call, Order(call.id, what, **said))
        return call

    def ping(self, *, timeout: float | None = 5.0) -> C:
        """Asks the broker for a sign of life; the call has no result."""
        self._check_running()
        call = self._question("ping", timeout)
        self._submit(self._endpoint.ping, call)
        return call

    def _list_players(
        self, then: Callable[[list[PlayerID]], None], failed: OnError, until: float | None
    ) -> None:
        found: list[PlayerID] = []

        def ask(after: int) -> None:
            call = self._question("query players", _left(until), take, failed)
            self._submit(self._endpoint.query, call, Subject.PLAYERS, after)

        def take(rows: list[list[Any]], following: int | None) -> None:
            found.extend(row[0] for row in rows)
            if following is None:
                then(found)
            else:
                ask(following)

        ask(0)


def _heartbeat_ms(heartbeat: Any, role: Role) -> int:
    if heartbeat is None:
        heartbeat = PLAYER_HEARTBEAT_S if role is Role.PLAYER else TRUSTED_HEARTBEAT_S
    if type(heartbeat) not in (int, float) or not 0.1 <= heartbeat <= MAX_HEARTBEAT_S:
        raise ValueError(f"heartbeat is 0.1 to {MAX_HEARTBEAT_S} seconds, or None, not {heartbeat!r}")
    return int(1000 * heartbeat)


def _left(until: float | None) -> float | None:
    """Gives the timeout of a call that has to end by then."""
    return None if until is None else max(0.0, until - time.monotonic())


def _check_functions(callback: Any, on_error: Any) -> None:
    for name, function in (("callback", callback), ("on_error", on_error)):
        if function is not None and not callable(function):
            raise TypeError(f"{name} is a function or None, not {type(function).__name__}")


@lru_cache(MAX_ADDRESSES, typed=True)  # typed: True is not the ID 1
def _known_address(player_id: Any) -> bytes:
    return encode_player_id(check_player_id(player_id))


def _address(player_id: Any) -> bytes:
    try:
        return _known_address(player_id)
    except TypeError:
        return encode_player_id(check_player_id(player_id))  # what can't be looked up is said to be no ID


def _register(
    endpoint: Endpoint,
    key: str,
    handler: Any,
    *,
    replace: bool,
    in_thread: bool,
    allow: Allow | None = None,
    limit: str | None = None,
) -> Any:
    def add(function: Any) -> Registration:
        return endpoint.registry.add(
            key, function, replace=replace, in_thread=in_thread, allow=allow, limit=limit
        )

    if handler is not None:
        return add(handler)
    check_terms(key, allow, limit)

    def decorate(function: F) -> F:
        add(function)
        return function

    return decorate
