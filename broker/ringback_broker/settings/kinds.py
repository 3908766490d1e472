"""Kinds of settings: what many settings have in common."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

from ringback.protocol.addresses import check_address

BOUNDS: dict[str, Callable[[float, float], bool]] = {
    "minimum": operator.ge,
    "exclusiveMinimum": operator.gt,
    "maximum": operator.le,
    "exclusiveMaximum": operator.lt,
}
"""The words of JSON Schema for the bounds of a number, and what a number and its bound must satisfy."""


@dataclass(frozen=True)
class Kind:
    """What all settings of a kind have in common.

    Args:
        metavar: what stands for a value in a help text: its unit.
        allowed: the values that are allowed, in words.
        bounds: those of a number, in the words of JSON Schema.
        is_path: whether it is a path. In a settings file, paths are relative to that file.
        check: returns a value in its normal form, or raises a ValueError. It gets values of the right type.
    """

    metavar: str
    allowed: str
    bounds: Mapping[str, float] = field(default_factory=dict)
    is_path: bool = False
    check: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class About:
    """What users are told about one setting.

    Args:
        text: what it does.
        reloads: whether a new value holds after SIGHUP. Else it holds after a restart.
        environment: its variable, if that is not `RINGBACK_` and the name.
    """

    text: str
    reloads: bool = False
    environment: str = ""


def split_host_port(text: str) -> tuple[str, int]:
    """Return the two parts of HOST:PORT. The host may be an IPv6 address in brackets.

    Raises:
        ValueError: the text does not have this form.
    """
    try:
        checked = check_address(f"tcp://{text}", bind=True)
    except ValueError:
        checked = ""
    host, _, port = checked.removeprefix("tcp://").rpartition(":")
    if not host or host == "*":
        raise ValueError(f"HOST:PORT is allowed, with a port of 0 to 65535, not {text!r}")
    return host.strip("[]"), int(port)


def _check_listener(text: str) -> str:
    split_host_port(text)
    return text


_LISTENS = partial(check_address, bind=True)

MAX_NAME_CHARS = 64

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NATS = re.compile(r"(?P<scheme>nats|tls)://(?P<rest>[^/?#]+)/?")
NATS_PORT = 4222


def check_name(text: str) -> str:
    """Return the name of a realm or a node, if it is allowed.

    Raises:
        ValueError: it is not.
    """
    if not _NAME.fullmatch(text):
        raise ValueError(f"1 to {MAX_NAME_CHARS} letters, digits, - and _ are allowed, not {text!r}")
    return text


def check_nats_addresses(text: str) -> str:
    """Return addresses of NATS in their normal form, with ports.

    Raises:
        ValueError: one of them is not allowed. Nothing secret is in the message.
    """
    return ",".join(_nats_address(part.strip()) for part in text.split(","))


def _nats_address(text: str) -> str:
    match = _NATS.fullmatch(text)
    if "@" in text:
        raise ValueError("an address must have no user or password: nats_credentials names a file for them")
    if match is None:
        raise ValueError(f"nats://HOST:PORT or tls://HOST:PORT is allowed, with commas between, not {text!r}")
    rest = match["rest"]
    has_port = re.search(r":[0-9*]+$", rest) and not rest.endswith("]")
    checked = check_address(f"tcp://{rest}" if has_port else f"tcp://{rest}:{NATS_PORT}", bind=False)
    return match["scheme"] + checked.removeprefix("tcp")


Address = Annotated[str, Kind("ADDR", "tcp://HOST:PORT or ipc://PATH", check=_LISTENS)]
HTTPAddress = Annotated[str | None, Kind("HOST:PORT", "HOST:PORT", check=_check_listener)]
ClusterAddresses = Annotated[
    str | None, Kind("ADDRS", "nats://HOST:PORT or tls://HOST:PORT", check=check_nats_addresses)
]
_A_NAME = Kind("NAME", "letters, digits, - and _", check=check_name)
Name = Annotated[str, _A_NAME]
NodeName = Annotated[str | None, _A_NAME]
File = Annotated[str | None, Kind("FILE", "the path of a file", is_path=True)]
Flag = Annotated[bool, Kind("", "true or false")]
Seconds = Annotated[
    float,
    Kind(
        "SECONDS",
        "a number of seconds above 0 and below 1e9",
        {"exclusiveMinimum": 0, "exclusiveMaximum": 1e9},
    ),
]
_WHOLE = {"minimum": 1, "maximum": 999_999_999}
Count = Annotated[int, Kind("N", "a whole number from 1 to 999999999", _WHOLE)]
Bytes = Annotated[int, Kind("BYTES", "a whole number of bytes from 1 to 999999999", _WHOLE)]
Rate = Annotated[float, Kind("RATE", "a number a second above 0, or inf", {"exclusiveMinimum": 0})]
