"""The schema of the broker's settings: name, default, bounds and text of each.

A setting has the same name here, in `ringback.toml`, as an option (`--max-players`) and in the environment
(`RINGBACK_MAX_PLAYERS`). `ringback_broker.settings.sources` combines these sources.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

from ringback.protocol.addresses import is_local
from ringback.protocol.limits import MAX_HEARTBEAT_S
from ringback_broker.settings.kinds import (
    About,
    Address,
    Bytes,
    ClusterAddresses,
    Count,
    File,
    Flag,
    HTTPAddress,
    Kind,
    Name,
    NodeName,
    Rate,
    Seconds,
)
from ringback_broker.settings.setting import JSON_TYPES, Setting
from ringback_broker.settings.setting import InvalidSetting as InvalidSetting

DEFAULT_PLAYERS = "tcp://127.0.0.1:5770"
DEFAULT_BACKEND = "tcp://127.0.0.1:5771"


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """The settings of a broker. They are checked here, wherever they come from.

    Raises:
        InvalidSetting: one of them is wrong, or does not go with the others.
    """

    players: Annotated[Address, About("The address where players connect. Port 0: any free port.")] = (
        DEFAULT_PLAYERS
    )
    backend: Annotated[Address, About("The address where the server and operators connect.")] = (
        DEFAULT_BACKEND
    )
    key_file: Annotated[
        File,
        About(
            "The broker's key file. With it, links are encrypted, and only keys of the access list may join.",
            environment="RINGBACK_BROKER_KEY_FILE",  # RINGBACK_KEY_FILE names the key file of an endpoint
        ),
    ] = None
    access: Annotated[
        File, About("The access list: a TOML file of the keys that may join. It goes with key_file.")
    ] = None
    insecure: Annotated[
        Flag,
        About("Without keys: listen on addresses that other machines can reach too, and log a warning."),
    ] = False
    audit: Annotated[
        File, About("The audit log: a line of JSON for each peer that joined, left or was refused.")
    ] = None
    http: Annotated[
        HTTPAddress, About("Where to serve metrics and health over HTTP. Port 0: any free port.")
    ] = None
    http_token_file: Annotated[
        File, About("A file that has only a token. Requests for metrics and the dashboard must carry it.")
    ] = None
    dashboard: Annotated[
        Flag, About("Serve the dashboard there too: a page that shows players and calls, and triggers calls.")
    ] = False
    dashboard_key_file: Annotated[
        File, About("The key file of an operator, for the dashboard of a broker with keys.")
    ] = None
    log_format: Annotated[
        Literal["text", "json"],
        Kind("FORMAT", "text or json"),
        About("How to write the log to standard error: text for people, or json, an object a line."),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Kind("LEVEL", "debug, info, warning or error"),
        About("The lowest level to log. debug shows operators that join and leave too.", reloads=True),
    ] = "info"
    report: Annotated[
        float,
        Kind("SECONDS", "a number of seconds from 0 to 60", {"minimum": 0, "maximum": 60}),
        About("How often the server and operators report figures of their calls. 0: never."),
    ] = 1.0
    lease: Annotated[Seconds, About("A session ends when nothing comes from its peer for this long.")] = 60.0
    grace: Annotated[
        Seconds, About("How long calls in flight may last after the first signal to stop.", reloads=True)
    ] = 5.0
    hello: Annotated[
        Seconds, About("A connection is closed if it does not say HELLO within this time.", reloads=True)
    ] = 5.0
    max_players: Annotated[
        Count, About("How many players may be connected. More are refused.", reloads=True)
    ] = 16_000
    max_operators: Annotated[
        Count, About("How many operators may be connected. More are refused.", reloads=True)
    ] = 256
    crowd: Annotated[
        Count, About("How many players may send heartbeats as often as they like.", reloads=True)
    ] = 500
    crowd_heartbeat: Annotated[
        float,
        Kind(
            "SECONDS",
            f"a number of seconds above 0, at most {MAX_HEARTBEAT_S}",
            {"exclusiveMinimum": 0, "maximum": MAX_HEARTBEAT_S},
        ),
        About("The shortest heartbeat interval of the players beyond the crowd."),
    ] = 5.0
    ip_connections: Annotated[Count, About("How many connections one IP may have.", reloads=True)] = 20_000
    ip_handshakes: Annotated[
        Rate,
        About(
            "How many connections one IP may make a second. This many may come at once, then one after"
            " another at this rate.",
            reloads=True,
        ),
    ] = 500.0
    player_queue: Annotated[
        Count, About("How many frames may wait for one player. More are bounced OVERLOADED.")
    ] = 512
    backend_queue: Annotated[Count, About("The same for the server, and for each operator.")] = 8192
    player_window: Annotated[
        Bytes,
        About(
            "How much may be on its way to one player before the player confirms that it read it. More is"
            " bounced OVERLOADED.",
            reloads=True,
        ),
    ] = 8 * 1024 * 1024
    backend_window: Annotated[
        Bytes, About("The same for the server, and for each operator.", reloads=True)
    ] = 64 * 1024 * 1024
    slow: Annotated[
        Seconds,
        About(
            "A session ends when its window is full and its peer reads nothing for this long.", reloads=True
        ),
    ] = 10.0
    player_frames: Annotated[
        Rate,
        About(
            "How many frames one player may send a second, each of up to 256 calls. This many pass at once,"
            " then one after another at this rate. More are bounced RATE_LIMITED. A player that stays at"
            " twice the rate is refused.",
            reloads=True,
        ),
    ] = 10_000.0
    player_bytes: Annotated[
        Rate,
        About(
            "The same in bytes. A frame that is larger than that passes after a pause.",
            reloads=True,
        ),
    ] = 100e6
    spin: Annotated[
        float,
        Kind("SECONDS", "a number of seconds from 0 to 1", {"minimum": 0, "maximum": 1}),
        About(
            "How long the broker stays awake for the next frame, if frames come and that pays. 0: never.",
            reloads=True,
        ),
    ] = 0.0005

    cluster: Annotated[
        ClusterAddresses,
        About("The NATS servers of the realm that this broker is a node of, with commas between."),
    ] = None
    realm: Annotated[Name, About("The name of the realm.")] = "main"
    node: Annotated[
        NodeName, About("The name of this broker in its realm. Without it, the name of the host.")
    ] = None
    node_lease: Annotated[
        float,
        # A node that was stopped for less than its lease passes on what waited in it. Handlers' sides know a
        # call that has also come another way for 120 s (`REMEMBER_S`).
        Kind("SECONDS", "a number of seconds from 12 to 120", {"minimum": 12, "maximum": 120}),
        About("How long a broker must be silent before others may take what it owns in the realm."),
    ] = 15.0
    nats_credentials: Annotated[
        File, About("How to log in to NATS: a .creds file, an nkey seed, or TOML with user and password.")
    ] = None
    nats_ca: Annotated[
        File, About("The certificates of the authorities that may have signed NATS' certificate, PEM.")
    ] = None
    nats_cert: Annotated[File, About("The certificate of this broker for NATS, PEM.")] = None
    nats_key: Annotated[File, About("The key of that certificate, PEM.")] = None

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, setting.check(getattr(self, setting.name)))
        if self.players == self.backend and not self.players.endswith(":0"):
            raise InvalidSetting("backend", f"it must differ from players, and both are {self.players}")
        if (self.key_file is None) is not (self.access is None):
            missing = "key_file" if self.key_file is None else "access"
            raise InvalidSetting(
                "access",
                "it and key_file go together, the list of who may join and the broker's key, and"
                f" {missing} is missing",
            )
        for name in ("players", "backend"):
            address = getattr(self, name)
            if self.key_file is None and not self.insecure and not is_local(address):
                raise InvalidSetting(
                    name,
                    f"other machines can reach {address}, so the broker needs keys: make them with"
                    " `ringback keys new broker --role broker`, then set key_file and access (--key-file,"
                    " --access); or set insecure (--insecure)",
                )
        local = self.http is None or is_local(f"tcp://{self.http}")
        if not local and self.http_token_file is None and not self.insecure:
            raise InvalidSetting(
                "http",
                f"other machines can reach {self.http}, so it needs a token: set http_token_file"
                " (--http-token-file); or set insecure (--insecure)",
            )
        if self.dashboard:
            self._check_dashboard()
        elif self.dashboard_key_file is not None:
            raise InvalidSetting("dashboard_key_file", "it needs dashboard (--dashboard)")
        if (self.nats_cert is None) is not (self.nats_key is None):
            raise InvalidSetting("nats_key", "it and nats_cert go together: a certificate and its key")
        for name in ("node", "nats_credentials", "nats_ca", "nats_cert"):
            if self.cluster is None and getattr(self, name) is not None:
                raise InvalidSetting(name, "it needs cluster (--cluster): the addresses of NATS")

    def _check_dashboard(self) -> None:
        """Check that only those can use the page without a token who could join as an operator anyway."""
        if self.http is None:
            raise InvalidSetting("dashboard", "it is served over HTTP: set http too (--http HOST:PORT)")
        if self.key_file is None and self.dashboard_key_file is not None:
            raise InvalidSetting("dashboard_key_file", "it needs key_file and access")
        if self.key_file is not None and self.dashboard_key_file is None:
            raise InvalidSetting(
                "dashboard",
                "on a broker with keys it needs an operator's key: make one with `ringback keys new dashboard"
                " --role operator`, allow it, and set dashboard_key_file (--dashboard-key-file)",
            )
        exposed = not is_local(f"tcp://{self.http}")
        guarded = self.key_file is not None or self.backend.startswith("ipc://")
        if self.http_token_file is None and (exposed or guarded):
            who = (
                f"other machines can reach {self.http}"
                if exposed
                else "not everybody on this machine may join"
            )
            raise InvalidSetting(
                "dashboard",
                f"{who}, and the page triggers calls, so it needs a token: set http_token_file"
                " (--http-token-file)",
            )


def _settings() -> dict[str, Setting]:
    hints = get_type_hints(BrokerSettings, include_extras=True)
    return {
        field.name: Setting(field.name, hints[field.name], field.default) for field in fields(BrokerSettings)
    }


SETTINGS = _settings()
"""The schema: all settings by their names."""


def json_schema() -> dict[str, Any]:
    """Return the schema of `ringback.toml` as JSON Schema, draft 2020-12."""
    properties = {}
    for name, setting in SETTINGS.items():
        kind: dict[str, Any] = {"type": JSON_TYPES[setting.type], **setting.kind.bounds}
        if setting.choices:
            kind["enum"] = list(setting.choices)
        if setting.default is not None:  # TOML has no null
            kind["default"] = setting.default
        if setting.kind.metavar:
            kind["x-unit"] = setting.kind.metavar
        properties[name] = {"description": setting.about.text, **kind}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ringback.toml",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
