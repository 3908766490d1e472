"""The arguments that an endpoint is constructed with: their names, types and defaults, and the checks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from ringback._argument_names import advice
from ringback._runtime.call_context import LONGEST_S
from ringback._runtime.link_keys import Token, link_keys
from ringback.protocol.addresses import check_addresses
from ringback.protocol.frames import Role
from ringback.protocol.limits import MAX_HEARTBEAT_S, PLAYER_HEARTBEAT_S, TRUSTED_HEARTBEAT_S, Limits
from ringback.protocol.player_ids import PlayerID, check_player_id

if TYPE_CHECKING:
    from ringback._runtime.link_keys import KeyFile
    from ringback.credentials import KeyPair

MIN_HEARTBEAT_S = 0.1


class EndpointArguments(TypedDict, total=False):
    """The keyword arguments of every endpoint, as type checkers see them in the constructors.

    `EndpointOptions` has the defaults.
    """

    limits: Limits | None
    connect_timeout: float
    heartbeat: float | None
    key_file: KeyFile | None
    broker_key: str | None
    token: Token | None


class ServerArguments(EndpointArguments, total=False):
    """The keyword arguments of a server."""

    standby: bool


class BlockingArguments(EndpointArguments, total=False):
    """The keyword arguments of an endpoint of the blocking face."""

    workers: int
    max_threads: int


class BlockingServerArguments(BlockingArguments, ServerArguments, total=False):
    """The keyword arguments of a server of the blocking face."""


def check_names(role: Role, arguments: Mapping[str, object], known: type) -> None:
    """Raise TypeError for a keyword argument that the constructor of an endpoint does not have.

    Args:
        known: the class that lists the keyword arguments, such as `BlockingArguments`.
    """
    names = known.__annotations__
    if "player_id" in arguments:
        raise TypeError(f"only a player may have a player_id, not a {role}")
    for name in arguments:
        if name not in names:
            raise TypeError(
                f"a {role} got an unexpected keyword argument {name!r}: {_advice(name, names, role)}"
            )


def _advice(name: str, names: Collection[str], role: Role) -> str:
    if name in BlockingArguments.__annotations__:
        return "only the blocking face has it"
    if name in ServerArguments.__annotations__:
        return "only a server has it"
    return advice(name, [*names, *(["player_id"] if role is Role.PLAYER else ())])


@dataclass(frozen=True, kw_only=True)
class EndpointOptions:
    """What an endpoint was constructed with. Creating the options checks them.

    The docstrings of the endpoints describe the arguments.

    Attributes:
        addresses: the address, or those of the list, in the order in which they were given.
        keys: the endpoint's key pair, with the broker's public key; None for a link without encryption.

    Raises:
        TypeError, ValueError: an argument has the wrong type or value. The message names the argument.
        KeyFileError: the key file cannot be read, or its content is wrong.
    """

    role: Role
    address: str | Sequence[str]
    player_id: PlayerID | None = None
    limits: Limits | None = None
    connect_timeout: float = 5.0
    heartbeat: float | None = None
    key_file: KeyFile | None = None
    broker_key: str | None = None
    token: Token | None = field(default=None, repr=False)
    standby: bool = False
    addresses: tuple[str, ...] = field(init=False)
    keys: KeyPair | None = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "addresses", check_addresses(self.address))  # the dataclass is frozen
        if self.player_id is not None:
            if self.role is not Role.PLAYER:
                raise TypeError(f"only a player may have a player_id, not a {self.role}")
            check_player_id(self.player_id)
        if self.limits is not None and not isinstance(self.limits, Limits):
            raise TypeError(f"limits must be a ringback.Limits or None, not {type(self.limits).__name__}")
        _check_connect_timeout(self.connect_timeout)
        _check_heartbeat(self.heartbeat)
        if type(self.standby) is not bool:
            raise TypeError(f"standby must be a bool, not {type(self.standby).__name__}")
        keys = link_keys(self.role, self.key_file, self.broker_key, self.token)
        object.__setattr__(self, "keys", keys)

    @property
    def accepts(self) -> Limits:
        """The limits for what others send: those given, or the defaults."""
        return self.limits or Limits()

    @property
    def heartbeat_ms(self) -> int:
        """The interval of heartbeats in milliseconds: the one given, or the default of the role."""
        default_s = PLAYER_HEARTBEAT_S if self.role is Role.PLAYER else TRUSTED_HEARTBEAT_S
        return int(1000 * (default_s if self.heartbeat is None else self.heartbeat))


@dataclass(frozen=True, kw_only=True)
class BlockingOptions(EndpointOptions):
    """What an endpoint of the blocking face was constructed with."""

    workers: int = 4
    max_threads: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        workers, max_threads = self.workers, self.max_threads
        if type(workers) is not int or type(max_threads) is not int or not 1 <= workers <= max_threads:
            raise ValueError(
                "workers and max_threads must be ints with 1 <= workers <= max_threads,"
                f" not {workers!r} and {max_threads!r}"
            )


def _check_connect_timeout(timeout: float) -> None:
    allowed = f"connect_timeout must be a number of seconds above 0 and below {LONGEST_S:g}"
    if type(timeout) not in (int, float):
        raise TypeError(f"{allowed}, not {type(timeout).__name__}")
    if not 0 < timeout < LONGEST_S:
        raise ValueError(f"{allowed}, not {timeout}")


def _check_heartbeat(heartbeat: float | None) -> None:
    if heartbeat is None:
        return
    if type(heartbeat) not in (int, float) or not MIN_HEARTBEAT_S <= heartbeat <= MAX_HEARTBEAT_S:
        raise ValueError(
            f"heartbeat must be {MIN_HEARTBEAT_S} to {MAX_HEARTBEAT_S} seconds, or None, not {heartbeat!r}"
        )
