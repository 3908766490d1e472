"""What the server can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Unpack, overload

from ringback._argument_names import check_options, checks_names
from ringback._roles.base import C, F, G
from ringback._roles.registering import ServerRegisterOptions, register, register_contract
from ringback._roles.trigger_options import Callback, OnError
from ringback._roles.trusted import TrustedRole
from ringback._runtime import call_context
from ringback.contracts import P, R, RegisterOnServer, ServerCallback, ServerHandler
from ringback.core.permissions import Allow
from ringback.core.registry import Registration
from ringback.core.shell import EndpointEvent
from ringback.errors import UsageError
from ringback.protocol.player_ids import PlayerID


class ServerRole(TrustedRole[C, G]):
    """The functions of the one server."""

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
        idempotent: bool = False,
        serial: bool = False,
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
        idempotent: bool = False,
        serial: bool = False,
    ) -> Registration: ...

    @checks_names
    def register_server_callback(
        self,
        key: str,
        handler: Any = None,
        *,
        replace: bool = False,
        in_thread: bool = False,
        allow: Allow | None = None,
        limit: str | None = None,
        idempotent: bool = False,
        serial: bool = False,
    ) -> Any:
        """Register a callback that players trigger.

        Also usable as a decorator, without `handler`.

        Args:
            key: a str of 1 to 256 bytes.
            handler: a function of (source, payload, cb), which replies with `cb(*results)`, or of
                (source, payload), which replies with what it returns. It may be a coroutine function.
                `source` is the ID of the player that calls, as the broker knows it.
            replace: whether the callback may replace one that is registered under the same key.
            in_thread: for the asyncio face: run a plain handler that blocks in a thread.
            allow: who may call it. Other callers get FORBIDDEN, and the handler does not run. A set, list
                or tuple of player IDs (it is copied), a function of (source) that returns a bool, or
                `OPERATORS`, which allows no player. If an operator calls, the IDs and the function are
                checked against the source that the operator names. The function runs on the I/O thread
                (asyncio: on the loop), so it must not block or wait for calls. If it raises or returns
                anything but a bool, the call is forbidden and the mistake is logged.
            limit: how often one caller may call it: "5/s", "100/min", "0.5/h". A caller may make that many
                calls at once, but at least one. Calls over the limit get RATE_LIMITED, with
                `data["retry_after"]` in seconds. A caller is a player, or an operator with one source.
            idempotent: whether the handler may run twice for one call without harm. Then a call with `retry`
                is also tried again if nobody knows whether it ran, as after the server's process has died.
            serial: whether the calls of one source run one after the other, in the order in which they came.
                Those of other sources run meanwhile. The next one runs once the handler has replied. A call
                that waits counts as one that is handled. A handler must not wait for a call of its own
                callback and source.

        `allow` and `limit` do not apply to `trigger_callback` of this server itself.

        Returns:
            A registration; call its `unregister()` to remove the callback. As a decorator: the function.

        Raises:
            TypeError: the key, the handler, `allow` or `limit` has the wrong type.
            ValueError: the key is too long or already registered, an ID in `allow` is out of range, or
                `limit` is not a rate.
        """
        return register(
            self._registry,
            key,
            handler,
            replace=replace,
            in_thread=in_thread,
            allow=allow,
            limit=limit,
            idempotent=idempotent,
            serial=serial,
            log_name=self._log_name,
        )

    @overload
    def register(
        self,
        contract: ServerCallback[P, R],
        handler: None = None,
        **options: Unpack[ServerRegisterOptions],
    ) -> RegisterOnServer[P, R]: ...

    @overload
    def register(
        self,
        contract: ServerCallback[P, R],
        handler: ServerHandler[P, R],
        **options: Unpack[ServerRegisterOptions],
    ) -> Registration: ...

    def register(self, contract: Any, handler: Any = None, **options: Unpack[ServerRegisterOptions]) -> Any:
        """Register the handler of a contract. Also usable as a decorator, without `handler`.

        The handler gets a payload of the contract's type. A payload that does not fit gets INVALID_PAYLOAD,
        and the handler does not run. What the handler returns, or gives to `cb`, must be of the type of the
        contract's result. Anything else is logged, and the caller gets HANDLER_ERROR.

        The other arguments are those of `register_server_callback`.

        Args:
            contract: a `ServerCallback`.
            handler: as for `register_server_callback`, with the types of the contract.

        The returned registration and the errors are those of `register_server_callback`.
        """
        check_options("register", options, ServerRegisterOptions)
        return register_contract(self._registry, ServerCallback, contract, handler, options)

    @property
    def acting(self) -> bool:
        """Whether the calls of players come to this server.

        It is False while this server stands by, while there is no link to the broker, and once this server
        has handed over.
        """
        return self._shell.running and self._endpoint.acting

    def _state(self) -> str:
        state = super()._state()
        return f"{state}, does not act" if state == "connected" and not self.acting else state

    def on_acting(self, listener: F) -> F:
        """Call `listener(acting)` each time `acting` changes: with True or False.

        Also usable as a decorator.

        Returns:
            The listener.

        Raises:
            TypeError: the listener is not a function of one argument.
        """
        return self._listen(EndpointEvent.ACTING, listener)

    def _call_hand_over(self, timeout: float | None) -> C:
        """Return a call that ends once this server has handed over and left."""
        self._check_running()
        execution = self._shell.current_execution()
        if execution is not None and not execution.replied:
            raise UsageError(
                f"the handler of {execution.key!r} has not replied, so hand_over would wait for itself: call"
                " `cb` first, or hand over outside the handler, as in another thread or task"
            )
        now = time.monotonic()
        deadline, _ = call_context.deadline_and_budget(timeout, now)
        call = self._call_class(next(self._ids), "hand over", deadline, None, None, now, self)
        self._submit(self._endpoint.hand_over, call)
        return call

    @property
    def players(self) -> list[PlayerID]:
        """The IDs of the players that are connected now, in the order in which they joined."""
        self._shell.check_process()
        return list(self._endpoint.players)

    def on_player_joined(self, listener: F) -> F:
        """Call `listener(player_id)` for each player that joins.

        When the server connects, the listener is also called for each player that is already connected.
        Also usable as a decorator.

        Returns:
            The listener.

        Raises:
            TypeError: the listener is not a function of one argument.
        """
        return self._listen(EndpointEvent.PLAYER_JOINED, listener)

    def on_player_left(self, listener: F) -> F:
        """Call `listener(player_id)` for each player that leaves.

        When the server's link is lost, the listener is called for all players. Also usable as a decorator.

        Returns:
            The listener.

        Raises:
            TypeError: the listener is not a function of one argument.
        """
        return self._listen(EndpointEvent.PLAYER_LEFT, listener)

    def _list_players(
        self, then: Callable[[list[PlayerID]], None], failed: OnError, until: float | None
    ) -> None:
        then(self.players)
