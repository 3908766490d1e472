"""Addresses that the broker listens on and endpoints connect to, checked before libzmq sees them.

libzmq itself reads port 99999 as 34463, and waits for ever for a host name that does not resolve.
"""

from __future__ import annotations

import re
from typing import Any

MAX_IPC_PATH_BYTES = 107
"""How long the path of a Unix socket may be (unix(7): sun_path has 108 bytes with its end)."""

_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5}|\*)")


def check_address(address: Any, *, bind: bool) -> str:
    """Return the address if it is allowed. A port `*` becomes 0.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH`.
        bind: whether it is an address to listen on. Only then port 0, any free port, is allowed.

    Raises:
        TypeError: the address is not a str.
        ValueError: the address has neither form, or a part of it is out of range.
    """
    if type(address) is not str:
        raise TypeError(f"an address must be a str, not {type(address).__name__}")
    if address.startswith("ipc://"):
        return _check_ipc(address)
    match = _TCP.fullmatch(address)
    if match is None:
        raise ValueError(f"an address must be tcp://HOST:PORT or ipc://PATH, not {address!r}")
    port, host = match["port"], match["host"]
    if port == "*":
        port = "0"
    if not 0 <= int(port) <= 65535 or (int(port) == 0 and not bind):
        lowest = 0 if bind else 1
        raise ValueError(f"a port must be from {lowest} to 65535, not {match['port']} in {address!r}")
    if host == "*" and not bind:
        raise ValueError(f"a host to connect to must be a name or an IP, not * in {address!r}")
    return f"tcp://{host}:{port}"


def is_local(address: str) -> bool:
    """Return whether only programs on this machine can reach the address."""
    if address.startswith("ipc://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def dialled(address: str) -> str:
    """Return the address to connect to on this machine, for an address that the broker listens on."""
    for everywhere, loopback in (("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104
        if address.startswith(f"tcp://{everywhere}:"):
            return address.replace(everywhere, loopback, 1)
    return address


def _check_ipc(address: str) -> str:
    path = address.removeprefix("ipc://")
    size = len(path.encode(errors="replace"))
    if not 1 <= size <= MAX_IPC_PATH_BYTES or "\0" in path:
        raise ValueError(f"the path of an ipc address must have 1 to {MAX_IPC_PATH_BYTES} bytes, not {size}")
    if path.startswith("@") or path == "*":
        raise ValueError(f"the path of an ipc address must be the path of a file, not {path!r}")
    return address
