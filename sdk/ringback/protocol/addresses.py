"""Addresses of listeners: what is accepted, checked before libzmq sees it.

libzmq itself takes port 99999 for 34463 and waits for ever on a host that does not resolve.
"""

from __future__ import annotations

import re
from typing import Any

MAX_IPC_PATH_BYTES = 107
"""What fits into a Unix socket's address (unix(7): sun_path, 108 bytes with its end)."""

_TCP = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5}|\*)")


def check_address(address: Any, *, bind: bool) -> str:
    """Gives the address back, or says what is wrong with it.

    Args:
        address: `tcp://HOST:PORT` or `ipc://PATH`.
        bind: whether it is to listen at; port 0 (any free one) is allowed only then.

    Raises:
        TypeError: it is not a str.
        ValueError: it is not of one of the two forms, or a part of it is out of range.
    """
    if type(address) is not str:
        raise TypeError(f"an address is a str, not {type(address).__name__}")
    if address.startswith("ipc://"):
        return _check_ipc(address)
    match = _TCP.fullmatch(address)
    if match is None:
        raise ValueError(f"an address is tcp://HOST:PORT or ipc://PATH, not {address!r}")
    port, host = match["port"], match["host"]
    if port == "*":
        port = "0"
    if not 0 <= int(port) <= 65535 or (int(port) == 0 and not bind):
        raise ValueError(f"a port is {0 if bind else 1} to 65535, not {match['port']} in {address!r}")
    if host == "*" and not bind:
        raise ValueError(f"a host to connect to has a name or number, not * in {address!r}")
    return f"tcp://{host}:{port}"


def is_local(address: str) -> bool:
    """Tells whether only programs on this machine can reach an address."""
    if address.startswith("ipc://"):
        return True
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    return host == "localhost" or host == "::1" or re.fullmatch(r"127(\.[0-9]{1,3}){3}", host) is not None


def dialled(address: str) -> str:
    """Gives the address at which a program on this machine reaches who listens at an address."""
    for everywhere, loopback in (("*", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("[::]", "[::1]")):  # noqa: S104
        if address.startswith(f"tcp://{everywhere}:"):
            return address.replace(everywhere, loopback, 1)
    return address


def _check_ipc(address: str) -> str:
    path = address.removeprefix("ipc://")
    size = len(path.encode(errors="replace"))
    if not 1 <= size <= MAX_IPC_PATH_BYTES or "\0" in path:
        raise ValueError(f"the path of an ipc address is 1 to {MAX_IPC_PATH_BYTES} bytes, not {size}")
    if path.startswith("@") or path == "*":
        raise ValueError(f"the path of an ipc address is a file's, not {path!r}")
    return address
