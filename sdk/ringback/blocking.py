"""The blocking face: a program waits for calls, in any thread. Users import it as `ringback`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from ringback._argument_names import check_options, checks_names
from ringback._roles.base import RoleBase
from ringback._roles.blocking_calls import Call, CallGroup, TypedCall
from ringback._roles.operator import OperatorRole, Rows
from ringback._roles.player import PlayerRole
from ringback._roles.server import ServerRole
from ringback._roles.trigger_options import GroupOptions, OnProgress, TriggerOptions
from ringback._roles.trusted import TrustedRole
from ringback._runtime import call_context
from ringback._runtime.blocking_progress import IteratedProgress, ReportedProgress
from ringback._runtime.blocking_shell import BlockingShell
from ringback._runtime.options import BlockingArguments, BlockingOptions, BlockingServerArguments, check_names
from ringback._runtime.wait_times import WATCH_S
from ringback._runtime.worker_pool import waiting
from ringback.contracts import ClientCallback, P, R, ServerCallback
from ringback.core.progress import Progress
from ringback.errors import UsageError
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID

__all__ = ["Call", "CallGroup", "Operator", "Player", "Server"]

_ADDRESS = """

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
            called for each new link, in a worker. A token needs `broker_key`.
        workers: how many handlers may run at a time, 4 by default. Handlers that wait for calls of their own
            do not count.
        max_threads: how many workers there may be in all, 256 by default.
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


class BlockingFace(RoleBase[Call[Any], CallGroup[Any]]):
    """How an endpoint of the blocking face starts, ends and waits."""

    _shell: BlockingShell
    _call_class = Call
    _typed_class = TypedCall
    _module = "ringback"

    def __init__(self, options: BlockingOptions) -> None:
        super().__init__(options, BlockingShell(options))

    def start(self) -> Self:
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
        self._shell.start(self._options.connect_timeout)
        return self

    def close(self) -> None:
        """Leave the broker. Calls in flight end with `ConnectionLost`. A second call does nothing."""
        self._shell.stop()

    def run_forever(self) -> None:
        """Start the endpoint if necessary, and return when it is closed, or when a server has handed over.

        A signal handler or another thread may close it. Ctrl-C closes it too.

        Raises:
            LinkError: the endpoint could not start; see `start`.
            UsageError: this runs on the I/O thread, as an `allow` function does.
        """
        self._shell.check_process()
        with waiting():  # not within the `try`: it must not close an endpoint that goes on
            self._serve()

    def _serve(self) -> None:
        try:
            if not self._shell.running:
                self.start()
            while not self._shell.ended.wait(WATCH_S) and self._shell.endless_wait(None) is None:
                pass
        except KeyboardInterrupt:
            pass
        finally:
            self.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._shell.foreign:  # a forked child leaves the block: the endpoint is the parent's
            self._leaves(kind)
            self.close()

    @checks_names
    def ready_to_call(self, timeout: float | None = None) -> None:
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
        self._wait_for_room(timeout).result()

    def _make_group(self) -> CallGroup[Any]:
        return CallGroup(self._shell)

    def _new_progress(self, call: Call[Any], on_progress: OnProgress | None) -> Progress:
        shell = self._shell
        if on_progress is None:
            return IteratedProgress(shell, call.deadline)
        progress = ReportedProgress(shell, call.deadline, on_progress, call_context.clean_context(), call.key)
        if call.callback is not None:
            call.callback = progress.then(call.callback)
        if call.on_error is not None:
            call.on_error = progress.then(call.on_error)
        return progress

    def _check_running(self) -> None:
        if not self._shell.running:
            self._shell.check_process()
            raise UsageError(
                "this endpoint is not started, or closed: call start(), or use it in a `with` block"
            )

    def _keys_changed(self) -> None:
        if self._shell.running:
            self._shell.submit(self._endpoint.keys_changed)
        else:
            self._shell.check_process()


class BlockingTrusted(TrustedRole[Call[Any], CallGroup[Any]], BlockingFace):
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


class Server(ServerRole[Call[Any], CallGroup[Any]], BlockingTrusted):
    __doc__ = (
        f"The server. Players and operators trigger its callbacks.{_ADDRESS}{_OPTIONS}{_STANDBY}{_RAISES}"
    )

    def __init__(self, address: str | Sequence[str], **arguments: Unpack[BlockingServerArguments]) -> None:
        check_names(Role.SERVER, arguments, BlockingServerArguments)
        super().__init__(BlockingOptions(role=Role.SERVER, address=address, **arguments))

    @checks_names
    def hand_over(self, timeout: float | None = 30.0) -> None:
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
        self._call_hand_over(timeout).result()
        self.close()


class Player(PlayerRole[Call[Any], CallGroup[Any]], BlockingFace):
    __doc__ = f"A player. The server triggers its callbacks.{_ADDRESS}{_PLAYER_ID}{_OPTIONS}{_RAISES}"

    def __init__(
        self,
        address: str | Sequence[str],
        player_id: PlayerID | None = None,
        **arguments: Unpack[BlockingArguments],
    ) -> None:
        check_names(Role.PLAYER, arguments, BlockingArguments)
        super().__init__(BlockingOptions(role=Role.PLAYER, address=address, player_id=player_id, **arguments))

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
    BlockingTrusted,
):
    __doc__ = f"An operator: a trusted program that is not the server.{_ADDRESS}{_OPTIONS}{_RAISES}"

    def __init__(self, address: str | Sequence[str], **arguments: Unpack[BlockingArguments]) -> None:
        check_names(Role.OPERATOR, arguments, BlockingArguments)
        super().__init__(BlockingOptions(role=Role.OPERATOR, address=address, **arguments))
