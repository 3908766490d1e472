"""What a broker can be told: the one schema of its settings, and what is allowed of each.

A setting has the same name here, in `ringback.toml`, as an option (`--max-players`) and in the environment
(`RINGBACK_MAX_PLAYERS`). Where they come from is the matter of `ringback_broker.settings.sources`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cache, partial
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from ringback.protocol.addresses import check_address, is_local
from ringback.protocol.limits import MAX_HEARTBEAT_S

DEFAULT_PLAYERS = "tcp://127.0.0.1:5770"
DEFAULT_BACKEND = "tcp://127.0.0.1:5771"


class InvalidSetting(ValueError):
    """A setting of the broker is wrong.

    Args:
        setting: its name.
        reason: what is wrong with it, and what is allowed.
    """

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


@dataclass(frozen=True)
class Kind:
    """What all settings of a kind have in common.

    Args:
        metavar: what stands for a value in a help text: its unit.
        allowed: which values there are.
        is_path: whether a value in a file is relative to that file.
        check: gives a value of the right type back in its own form, or raises a ValueError.
    """

    metavar: str
    allowed: str
    is_path: bool = False
    check: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class About:
    """What is to be said of one setting.

    Args:
        text: what it does.
        reloads: whether SIGHUP has a new value hold; else the broker must be started anew.
        environment: its variable, where it is not `RINGBACK_` and the name.
    """

    text: str
    reloads: bool = False
    environment: str = ""


def split_host_port(text: str) -> tuple[str, int]:
    """Gives the two parts of HOST:PORT; the host may be an IPv6 address in brackets.

    Raises:
        ValueError: it is not of this form.
    """
    try:
        checked = check_address(f"tcp://{text}", bind=True)
    except ValueError:
        checked = ""
    host, _, port = checked.removeprefix("tcp://").rpartition(":")
    if not host or host == "*":
        raise ValueError(f"HOST:PORT is allowed, with a port of 0 to 65535, not {text!r}")
    return host.strip("[]"), int(port)


def _check_listener(text: str | None) -> str | None:
    if text is not None:
        split_host_port(text)
    return text


_LISTENS = partial(check_address, bind=True)

Address = Annotated[str, Kind("ADDR", "tcp://HOST:PORT or ipc://PATH", check=_LISTENS)]
HTTPAddress = Annotated[str | None, Kind("HOST:PORT", "HOST:PORT", check=_check_listener)]
File = Annotated[str | None, Kind("FILE", "the path of a file", is_path=True)]
Flag = Annotated[bool, Kind("", "true or false")]
Seconds = Annotated[float, Gt(0), Lt(1e9), Kind("SECONDS", "a number of seconds above 0 and below 1e9")]
Count = Annotated[int, Gt(0), Lt(10**9), Kind("N", "a whole number from 1 to 999999999")]
Bytes = Annotated[int, Gt(0), Lt(10**9), Kind("BYTES", "a whole number of bytes from 1 to 999999999")]
Rate = Annotated[float, Gt(0), Kind("RATE", "a number a second above 0, or inf")]


@dataclass(frozen=True, slots=True)
class BrokerSettings:
    """The settings of a broker. A program that gives them itself gets the same checks.

    Raises:
        InvalidSetting: one of them is wrong, or does not go with the others.
    """

    players: Annotated[Address, About("Where players connect to; port 0: any.")] = DEFAULT_PLAYERS
    backend: Annotated[Address, About("Where the server and operators connect to.")] = DEFAULT_BACKEND
    key_file: Annotated[
        File,
        About(
            "The broker's own key: links are encrypted, and only keys on the list may join.",
            environment="RINGBACK_BROKER_KEY_FILE",  # RINGBACK_KEY_FILE is that of an endpoint
        ),
    ] = None
    access: Annotated[File, About("The list of the keys that may join, a TOML file; with key_file.")] = None
    insecure: Annotated[
        Flag, About("Without keys: listen at addresses that others can reach too, and warn of it.")
    ] = False
    audit: Annotated[File, About("Who joined, left or was refused: a line of JSON for each.")] = None
    http: Annotated[HTTPAddress, About("Where metrics and health are served by HTTP; port 0: any.")] = None
    http_token_file: Annotated[
        File, About("A token that requests for metrics and the dashboard must have, alone in a file.")
    ] = None
    dashboard: Annotated[
        Flag, About("Serve a page there too, which shows players and calls, and triggers callbacks.")
    ] = False
    dashboard_key_file: Annotated[
        File, About("Where there are keys: that of an operator, for the dashboard.")
    ] = None
    log_format: Annotated[
        Literal["text", "json"],
        Kind("FORMAT", "text or json"),
        About("How the log is written to standard error: for people, or an object a line."),
    ] = "text"
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        Kind("LEVEL", "debug, info, warning or error"),
        About("The least that is logged; debug: operators that come and go too.", reloads=True),
    ] = "info"
    report: Annotated[
        float,
        Ge(0),
        Le(60),
        Kind("SECONDS", "a number of seconds from 0 to 60"),
        About("How often the server and operators tell what they have counted of calls; 0: never."),
    ] = 1.0
    lease: Annotated[Seconds, About("A peer from which nothing came for so long is out.")] = 60.0
    grace: Annotated[Seconds, About("For calls in flight, after the first signal to stop.", reloads=True)] = (
        5.0
    )
    hello: Annotated[
        Seconds, About("A connection that has not said HELLO after so long is closed.", reloads=True)
    ] = 5.0
    max_players: Annotated[Count, About("Further players are refused.", reloads=True)] = 16_000
    max_operators: Annotated[Count, About("Further operators are refused.", reloads=True)] = 256
    crowd: Annotated[
        Count, About("Players that may send heartbeats as often as they like.", reloads=True)
    ] = 500
    crowd_heartbeat: Annotated[
        float,
        Gt(0),
        Le(MAX_HEARTBEAT_S),
        Kind("SECONDS", f"a number of seconds above 0, at most {MAX_HEARTBEAT_S}"),
        About("How often those beyond may send them."),
    ] = 5.0
    address_connections: Annotated[Count, About("Connections that one address may have.", reloads=True)] = (
        20_000
    )
    address_handshakes: Annotated[
        Rate,
        About("Connections that one address may make in a second, with a burst of one second.", reloads=True),
    ] = 500.0
    player_queue: Annotated[
        Count, About("Frames that may wait for one player; what comes on top is bounced OVERLOADED.")
    ] = 512
    backend_queue: Annotated[Count, About("The same for the server, and for each operator.")] = 8192
    player_window: Annotated[
        Bytes,
        About("On the way to one player and not known to be read; on top likewise.", reloads=True),
    ] = 8 * 1024 * 1024
    backend_window: Annotated[
        Bytes, About("The same for the server, and for each operator.", reloads=True)
    ] = 64 * 1024 * 1024
    slow: Annotated[
        Seconds,
        About("A peer that reads nothing for so long, while much waits for it, is out.", reloads=True),
    ] = 10.0
    player_frames: Annotated[
        Rate,
        About(
            "Frames a second of one player, of up to 256 calls each, with a burst of one second. What is over"
            " it is bounced RATE_LIMITED; at twice the rate the player is ended.",
            reloads=True,
        ),
    ] = 10_000.0
    player_bytes: Annotated[Rate, About("Bytes a second of one player, likewise.", reloads=True)] = 100e6
    spin: Annotated[
        float,
        Ge(0),
        Le(1),
        Kind("SECONDS", "a number of seconds from 0 to 1"),
        About("While frames come, how long the broker stays awake for the next one; 0: never.", reloads=True),
    ] = 0.0005

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, setting.check(getattr(self, setting.name)))
        if self.players == self.backend and not self.players.endswith(":0"):
            raise InvalidSetting("backend", f"it and players are two addresses, not both {self.players}")
        if (self.key_file is None) is not (self.access is None):
            raise InvalidSetting(
                "access", "it and key_file go together, the list of who may join and the broker's key"
            )
        for name in ("players", "backend"):
            address = getattr(self, name)
            if self.key_file is None and not self.insecure and not is_local(address):
                raise InvalidSetting(
                    name,
                    f"others can reach {address}, so it needs keys: make them with `ringback keys new"
                    " broker --role broker`, then give key_file and access (--key-file, --access);"
                    " or say insecure (--insecure)",
                )
        local = self.http is None or is_local(f"tcp://{self.http}")
        if not local and self.http_token_file is None and not self.insecure:
            raise InvalidSetting(
                "http",
                f"others can reach {self.http}, so it needs a token: give http_token_file"
                " (--http-token-file); or say insecure (--insecure)",
            )
        if self.dashboard:
            self._check_dashboard()
        elif self.dashboard_key_file is not None:
            raise InvalidSetting("dashboard_key_file", "it goes with dashboard (--dashboard)")

    def _check_dashboard(self) -> None:
        """Who reaches the page without a token must be able to join as an operator anyway."""
        if self.http is None:
            raise InvalidSetting("dashboard", "HTTP serves it: give http too (--http HOST:PORT)")
        if self.key_file is None and self.dashboard_key_file is not None:
            raise InvalidSetting(
                "dashboard_key_file", "it goes with key_file and access, and is not used without"
            )
        if self.key_file is not None and self.dashboard_key_file is None:
            raise InvalidSetting(
                "dashboard",
                "on a broker with keys it needs that of an operator: make one with `ringback keys new"
                " dashboard --role operator`, allow it, and give dashboard_key_file (--dashboard-key-file)",
            )
        exposed = not is_local(f"tcp://{self.http}")
        guarded = self.key_file is not None or self.backend.startswith("ipc://")
        if self.http_token_file is None and (exposed or guarded):
            who = f"others can reach {self.http}" if exposed else "not everybody on this machine may join"
            raise InvalidSetting(
                "dashboard",
                f"{who}, and the page triggers callbacks, so it needs a token: give http_token_file"
                " (--http-token-file)",
            )


class Setting:
    """One setting, as the schema has it.

    Attributes:
        name: in a file; with `option` and `variable` for the command line and the environment.
        type: what it is, with its bounds.
        kind, about: what is said of it.
        choices: all values it may have, where they are few words.
        default: what holds where nothing is said.
    """

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name = name
        self.type = hint
        self.default = default
        self.kind: Kind = next(item for item in hint.__metadata__ if isinstance(item, Kind))
        self.about: About = next(item for item in hint.__metadata__ if isinstance(item, About))
        self.choices = get_args(hint.__origin__) if get_origin(hint.__origin__) is Literal else ()
        self.option = "--" + name.replace("_", "-")
        self.variable = self.about.environment or f"RINGBACK_{name.upper()}"

    def check(self, value: Any, *, text: bool = False) -> Any:
        """Gives a value, in its own form.

        Args:
            text: whether it comes as a text, from the environment.

        Raises:
            InvalidSetting: it is not allowed.
        """
        from pydantic import ValidationError

        try:
            value = _adapter(self.name).validate_python(value, strict=not text)
        except ValidationError:
            raise InvalidSetting(self.name, f"{self.kind.allowed} is allowed, not {value!r}") from None
        if self.kind.check is not None:
            try:
                return self.kind.check(value)
            except ValueError as error:
                raise InvalidSetting(self.name, str(error)) from None
        return value


@cache
def _adapter(name: str) -> Any:
    """Gives what checks the values of a setting. It takes long to import: not for a help text."""
    from pydantic import TypeAdapter

    return TypeAdapter(SETTINGS[name].type)


def _settings() -> dict[str, Setting]:
    hints = get_type_hints(BrokerSettings, include_extras=True)
    return {
        field.name: Setting(field.name, hints[field.name], field.default) for field in fields(BrokerSettings)
    }


SETTINGS = _settings()
"""The schema: all settings by their names."""


def json_schema() -> dict[str, Any]:
    """Gives the schema of `ringback.toml` as JSON Schema, draft 2020-12."""
    properties = {}
    for name, setting in SETTINGS.items():
        kind = _adapter(name).json_schema()
        if setting.default is None:  # which TOML has no word for
            kind = kind["anyOf"][0]
        else:
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
