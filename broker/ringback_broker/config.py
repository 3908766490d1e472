"""What a broker can be told."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ringback.protocol.addresses import check_address, is_local
from ringback.protocol.limits import MAX_HEARTBEAT_S

DEFAULT_PLAYERS = "tcp://127.0.0.1:5770"
DEFAULT_BACKEND = "tcp://127.0.0.1:5771"


class ConfigError(ValueError):
    """A setting of the broker is wrong; the message names it and what is allowed."""


@dataclass(frozen=True, slots=True)
class BrokerConfig:
    """The settings of a broker.

    Attributes:
        players: where players connect to.
        backend: where the server and operators connect to.
        key_file: the broker's own key; None: no encryption, and everybody may join.
        access: the list of the keys that may join, a TOML file; needs a key_file.
        insecure: whether addresses that others can reach are allowed without a key_file.
        lease_s: a session from which nothing came for so long ends, in seconds.
        grace_s: how long calls in flight may take after the first signal to stop, in seconds.
        hello_s: a connection that has not said HELLO after so long is closed, in seconds.
        max_players: further ones are refused with FULL.
        max_operators: likewise.
        crowd: players that may send heartbeats as often as they like; further ones are told how often.
        crowd_heartbeat_s: that often at most, in seconds.
        address_connections: connections that one address may have.
        address_handshakes_per_s: those that it may make, with a burst of one second.
        player_queue: frames that may wait for one player; what comes on top is bounced OVERLOADED.
        backend_queue: likewise for the server and each operator.
        player_window: bytes that may be on the way to one player, not known to be read; on top likewise.
        backend_window: likewise for the server and each operator.
        slow_s: a peer whose window is used up, and that reads nothing for so long, is ended, in seconds.
        player_frames_per_s, player_bytes_per_s: what one player may send, with a burst of one second; what
            is over it is bounced RATE_LIMITED, and a player that goes on at twice the rate is ended. inf
            for no limit.
        spin_s: while frames come, how long the broker stays awake for the next one, in seconds; 0: never.
    """

    players: str = DEFAULT_PLAYERS
    backend: str = DEFAULT_BACKEND
    key_file: str | None = None
    access: str | None = None
    insecure: bool = False
    lease_s: float = 60.0
    grace_s: float = 5.0
    hello_s: float = 5.0
    max_players: int = 16_000
    max_operators: int = 256
    crowd: int = 500
    crowd_heartbeat_s: float = 5.0
    address_connections: int = 20_000
    address_handshakes_per_s: float = 500.0
    player_queue: int = 512
    backend_queue: int = 8192
    player_window: int = 8 * 1024 * 1024
    backend_window: int = 64 * 1024 * 1024
    slow_s: float = 10.0
    player_frames_per_s: float = 10_000.0
    player_bytes_per_s: float = 100e6
    spin_s: float = 0.0005

    def __post_init__(self) -> None:
        for name in ("players", "backend"):
            try:
                object.__setattr__(self, name, check_address(getattr(self, name), bind=True))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"{name}: {error}") from None
        if self.players == self.backend and not self.players.endswith(":0"):
            raise ConfigError(f"players and backend are two addresses, not both {self.players}")
        if (self.key_file is None) is not (self.access is None):
            raise ConfigError(
                "access: key_file and access go together, a key and the list of who may join by theirs"
            )
        for name in ("players", "backend"):
            address = getattr(self, name)
            if self.key_file is None and not self.insecure and not is_local(address):
                raise ConfigError(
                    f"{name}: others can reach {address}, so it needs keys: make them with `ringback keys new"
                    " broker --role broker`, then give key_file and access (--key-file, --access);"
                    " or say insecure (--insecure)"
                )
        if self.crowd_heartbeat_s > MAX_HEARTBEAT_S:
            reason = f"at most {MAX_HEARTBEAT_S} s is allowed, not {self.crowd_heartbeat_s!r}"
            raise ConfigError(f"crowd_heartbeat_s: {reason}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (type(value) is not int or not 0 < value < 1e9):
                raise ConfigError(f"{field.name}: an int above 0 is allowed, not {value!r}")
            if field.name.endswith("_per_s") and value == float("inf"):
                continue
            if field.name == "spin_s" and value == 0:
                continue
            if field.type == "float" and (type(value) not in (int, float) or not 0 < value < 1e9):
                raise ConfigError(f"{field.name}: a number above 0 is allowed, not {value!r}")
