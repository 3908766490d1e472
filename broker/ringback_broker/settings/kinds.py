"""Kinds of settings: what many settings have in common."""

from __future__ import annotations

import operator
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

Address = Annotated[str, Kind("ADDR", "tcp://HOST:PORT or ipc://PATH", check=_LISTENS)]
HTTPAddress = Annotated[str | None, Kind("HOST:PORT", "HOST:PORT", check=_check_listener)]
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
