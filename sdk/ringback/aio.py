"""The asyncio face: a program awaits calls, on one event loop.

`Server`, `Player` and `Operator` have the names and signatures of the blocking face. Starting and closing are
coroutines, and a call is awaited.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ringback._argument_names import check_options, checks_names
from ringback._roles.asyncio_calls import Call, CallGroup, TypedCall
from ringback._roles.base import RoleBase
from ringback._roles.operator import OperatorRole, Rows
from ringback._roles.player import PlayerRole
from ringback._roles.server import ServerRole
from ringback._roles.trigger_options import GroupOptions, OnProgress, TriggerOptions
from ringback._roles.trusted import TrustedRole
from ringback._runtime import call_context
from ringback._runtime.asyncio_progress import IteratedProgress, ReportedProgress
from ringback._runtime.asyncio_shell import AsyncioShell
from ringback._runtime.options import EndpointArguments, EndpointOptions, ServerArguments, check_names
from ringback.contracts import ClientCallback, P, R, ServerCallback
from ringback.core.pending_call import PendingCall
from ringback.core.permissions import OPERATORS
from ringback.core.progress import Progress
from ringback.errors import UsageError
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID

CLEAN_UP_S = 30.0
"""How long handlers that have replied may still run once their server has handed over."""

__all__ = ["OPERATORS", "Call", "CallGroup", "Operator", "Player", "Server"]

_ADDRESS = """

    An endpoint belongs to the loop that it was started on. Use it only from that loop's thread. A `cb`
    may be called from any thread.

    Args:
        address: the broker's address, `tcp://HOST:PORT` or `ipc://PATH`. A player connects to the players'
            address, a server or an operator to the backend's. If several brokers act as one: a list of their
            addresses. The endpoint chooses one, and goes on to another one when it has to.
"""
_PLAYER_ID = """\
        player_id: an int from 1 to 2**63-1, or a str of 1 to 64 bytes. None, the default: the broker
            chooses one.
"""
_OPTIONS = """\
        limits: what the endpoint accepts from others; None, the default: `Limits()`.
        connect_timeout: how long `start` waits for the broker, in seconds, 5.0 by default.
        heartbeat: the interval of heartbeats, 0.1 to 60 seconds. A silent peer is found after about twice
            that. None, the default: 1.0 for a player, 0.5 for the others.
        key_file: the endpoint's own key file, made by `ringback keys new`, or a `KeyPair`.
        broker_key: the broker's public key, if the key file does not name it.
        token: for a player without a key file: the token, or a function that returns one. The function is
            called for each new link: a plain one in a thread, a coroutine function on the loop. A token
            needs `broker_key`.
"""
_STANDBY = """\
        standby: whether it waits while another server acts, and takes over when that one leaves, or
            hands over. False, the default: another server makes `start` fail.
"""
_RAISES = """
    Raises:
        TypeError, ValueError: an argument has the wrong type or value. The message names the argument.
        KeyFileError: the key file cannot be read, or its content is wrong.
    """
"""The docstring of each endpoint is put together from these."""


class AsyncioFace(RoleBase[Call[Any], CallGroup[Any]]):
    """How an endpoint of the asyncio face starts and ends."""

    _shell: AsyncioShell
    _call_class = Call
    _typed_class = TypedCall
    _module = "ringback.aio"

    def __init__(self, options: EndpointOptions) -> None:
        super().__init__(options, AsyncioShell(options))

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this endpoint, the link is up, and the event loop is not closed."""
        return super().connected and not self._shell.loop_is_closed()

    def _state(self) -> str:
        return "closed with its event loop" if self._shell.loop_is_closed() else super()._state()

    async def start(self) -> Self:
        """Connect, and wait until the broker has welcomed this endpoint.

        Afterwards, the endpoint connects again by itself when its link is lost.

        Returns:
            The endpoint.

        Raises:
            BrokerUnreachable: no broker responded within `connect_timeout`. Check the address, start the
                broker, or try again.
            Refused: the broker refused the endpoint, for example with `IDTaken` or `ServerTaken`.
            UsageError: the endpoint is already started.
        """
        if self._shell.loop_is_closed():  # as after an asyncio.run without a close
            self._shell.stop()
        if self._shell.running:
            self._check_running()
            raise UsageError("this endpoint is already started")
        await self._shell.start(self._options.connect_timeout)
        return self

    async def close(self) -> None:
        """Leave the broker. Calls in flight end with `ConnectionLost`. A second call does nothing.

        Coroutine handlers are cancelled. They have a second to clean up.

        Raises:
            UsageError: the endpoint was started on another event loop, which is not closed.
        """
        self._shell.check_process()
        if self._shell.running and not self._shell.loop_is_closed():
            self._check_running()
        self._shell.stop()
        tasks = self._shell.other_tasks()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)

    async def run_forever(self) -> None:
        """Start the endpoint if necessary, and serve until this is cancelled. Then close the endpoint.

        A server that has handed over also ends it.

        Raises:
            LinkError: the endpoint could not start; see `start`.
        """
        if not self._shell.running:
            await self.start()
        self._check_running()
        try:
            await self._shell.has_left.wait()
            await self._close_after(time.monotonic() + CLEAN_UP_S)
        finally:
            await self.close()

    async def _close_after(self, deadline: float | None) -> None:
        """Close the endpoint once its handlers have ended, or at the deadline. They have replied."""
        tasks = self._shell.other_tasks()
        if tasks:
            left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
            await asyncio.wait(tasks, timeout=left_s)
        await self.close()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._shell.foreign:  # a forked child leaves the block: the endpoint is the parent's
            self._leaves(kind)
            await self.close()

    @checks_names
    async def ready_to_call(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as in both faces
        """Wait until there is a link to the broker, and the limits have room for another call.

        For programs that make calls without end: wait here before each call. Calls over the limits of one
        peer wait by themselves with `wait_for_room=True`. This then waits until they have left.

        Args:
            timeout: in seconds; None for no limit. In a handler, at most the time that is left.

        Raises:
            CallTimeout: there was no room in time. It is a `TimeoutError` too.
            ConnectionLost: this endpoint was closed meanwhile.
            UsageError: this endpoint is not started, or closed.
        """
        await self._wait_for_room(timeout)

    def _make_group(self) -> CallGroup[Any]:
        return CallGroup(self._shell)

    def _new_progress(self, call: Call[Any], on_progress: OnProgress | None) -> Progress:
        if on_progress is None:
            return IteratedProgress(self._shell)
        return ReportedProgress(self._shell, on_progress, call_context.clean_context(), call.key)

    def _check_running(self) -> None:
        shell = self._shell
        # Two loops never run in one thread at once. Asking for the running loop would be a system call.
        if shell.home.is_running() and threading.get_ident() == shell.thread:
            return
        raise shell.misuse()

    def _keys_changed(self) -> None:
        self._shell.check_process()
        if not self._shell.running or self._shell.loop_is_closed():
            return
        if threading.get_ident() == self._shell.thread:
            self._endpoint.keys_changed()
        else:
            self._shell._loop.call_soon_threadsafe(self._endpoint.keys_changed)

    def cancel_call(self, call: PendingCall) -> None:
        """Cancel a call, for `Call.cancel`. Not for users."""
        self._check_running()
        super().cancel_call(call)


class AsyncioTrusted(TrustedRole[Call[Any], CallGroup[Any]], AsyncioFace):
    """What a server and an operator trigger by contract.

    Each face has these functions itself, because no type variable can stand for its `Call` of any type.
    """

    def trigger(
        self,
        contract: ClientCallback[P, R] | ServerCallback[P, R],
        player_id: PlayerID,
        payload: P,
        callback: Callable[[R], object] | None = None,
        **options: Unpack[TriggerOptions],
    ) -> Call[R]:
        """Trigger a callback that has a contract: that of a player, or the server's in the name of a player.

        A payload that does not fit the contract fails the call with `InvalidPayload`; nothing is sent.

        The other arguments are those of `trigger_client_callback`.

        Args:
            contract: a `ClientCallback`, or a `ServerCallback` as for `trigger_callback`.
            player_id: the player that is called, or the source.
            payload: a value of the contract's type.
            callback: a function that is called with the result if the call succeeds.

        Returns:
            The call. Its result has the contract's type.
        """
        check_options("trigger", options, TriggerOptions)
        call: Call[R] = self._trigger_contract(contract, player_id, payload, callback, **options)
        return call

    def trigger_all(
        self,
        contract: ClientCallback[P, R],
        payload: P,
        **options: Unpack[GroupOptions],
    ) -> CallGroup[R]:
        """Trigger a callback that has a contract on many players.

        The other arguments are those of `trigger_all_client_callbacks`.

        Args:
            contract: a `ClientCallback`.
            payload: a value of the contract's type.

        Returns:
            A group of calls, as `trigger_all_client_callbacks` returns it.
        """
        check_options("trigger_all", options, GroupOptions)
        group: CallGroup[R] = self._trigger_contract_on_all(contract, payload, **options)
        return group


class Server(ServerRole[Call[Any], CallGroup[Any]], AsyncioTrusted):
    __doc__ = (
        f"The server. Players and operators trigger its callbacks.{_ADDRESS}{_OPTIONS}{_STANDBY}{_RAISES}"
    )

    def __init__(self, address: str | Sequence[str], **arguments: Unpack[ServerArguments]) -> None:
        check_names(Role.SERVER, arguments, ServerArguments)
        super().__init__(EndpointOptions(role=Role.SERVER, address=address, **arguments))

    @checks_names
    async def hand_over(self, timeout: float | None = 30.0) -> None:  # noqa: ASYNC109 - as in the other face
        """Have the next server act, finish what this one has begun, and leave.

        New calls go to the next server at once. This one still replies to the calls that it handles, and its
        own calls go on. Its handlers may still make calls. A handler has ended once it has replied. A
        handler may call this once it has replied: before that, it would wait for itself.

        The endpoint is closed afterwards, as `close` does it. If nothing has ended in time, it is not: wait
        again, or call `close`, which ends the rest with `ServerLost`.

        Args:
            timeout: in seconds; None for no limit.

        Raises:
            NoServer: no server stands by, or the broker is too old for this. This server goes on.
            Draining: the broker is stopping.
            CallTimeout: what this server has begun has not ended in time. It is a `TimeoutError` too.
            ConnectionLost: the link was lost meanwhile.
            UsageError: this endpoint is not started, or closed; or this is a handler that has not replied.
        """
        call = self._call_hand_over(timeout)
        await call
        await self._close_after(call.deadline)


class Player(PlayerRole[Call[Any], CallGroup[Any]], AsyncioFace):
    __doc__ = f"A player. The server triggers its callbacks.{_ADDRESS}{_PLAYER_ID}{_OPTIONS}{_RAISES}"

    def __init__(
        self,
        address: str | Sequence[str],
        player_id: PlayerID | None = None,
        **arguments: Unpack[EndpointArguments],
    ) -> None:
        check_names(Role.PLAYER, arguments, EndpointArguments)
        super().__init__(EndpointOptions(role=Role.PLAYER, address=address, player_id=player_id, **arguments))

    def trigger(
        self,
        contract: ServerCallback[P, R],
        payload: P,
        callback: Callable[[R], object] | None = None,
        **options: Unpack[TriggerOptions],
    ) -> Call[R]:
        """Trigger a callback of the server that has a contract.

        A payload that does not fit the contract fails the call with `InvalidPayload`; nothing is sent.

        The other arguments are those of `trigger_server_callback`.

        Args:
            contract: a `ServerCallback`.
            payload: a value of the contract's type.
            callback: a function that is called with the result if the call succeeds.

        Returns:
            The call. Its result has the contract's type.
        """
        check_options("trigger", options, TriggerOptions)
        call: Call[R] = self._trigger_contract(contract, payload, callback, **options)
        return call


class Operator(
    OperatorRole[
        Call[Any],
        CallGroup[Any],
        Call[None],
        Call[tuple[Rows, int | None]],
        Call[tuple[Rows, dict[str, int] | None, dict[str, str]]],
    ],
    AsyncioTrusted,
):
    __doc__ = f"An operator: a trusted program that is not the server.{_ADDRESS}{_OPTIONS}{_RAISES}"

    def __init__(self, address: str | Sequence[str], **arguments: Unpack[EndpointArguments]) -> None:
        check_names(Role.OPERATOR, arguments, EndpointArguments)
        super().__init__(EndpointOptions(role=Role.OPERATOR, address=address, **arguments))
