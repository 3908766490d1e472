"""Addresses that the broker listens on and endpoints connect to, checked before libzmq sees them.

libzmq itself reads port 99999 as 34463, and waits for ever for a host name that does not resolve.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, zip_longest
from typing import Any

MAX_IPC_PATH_BYTES = 107
"""How long the path of a Unix socket may be (unix(7): sun_path has 108 bytes with its end)."""

MAX_HOST_BYTES = 253
MAX_LABEL_BYTES = 63
"""How long a host name and each of its labels may be, in the form for DNS (RFC 1035, section 2.3.4)."""

MAX_ADDRESSES = 16
"""How many addresses of one name are tried."""

MAX_BROKERS = 64
"""How many addresses of brokers an endpoint may be given."""

_BYTE = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}")
_COMMA = re.compile(r"\s*,\s*(?=(?:tcp|ipc)://)")
"""A comma between two addresses. The path of a Unix socket may have commas too."""

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
    if _COMMA.search(address):
        advice = "a broker listens at one address of each side" if bind else "give several as a list of str"
        raise ValueError(f"an address must be one address, without commas, not {address!r}: {advice}")
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
    if host != "*":
        _check_host(host, address)
    return f"tcp://{host}:{port}"


def check_addresses(addresses: Any) -> tuple[str, ...]:
    """Return the addresses of brokers to connect to, in their order.

    Args:
        addresses: one address, or a sequence of different ones: those of brokers that act as one.

    Raises:
        TypeError: neither a str nor a sequence of str.
        ValueError: there are none or too many, two are the same, or one is not an address to connect to.
    """
    if isinstance(addresses, str):
        check_address(addresses, bind=False)
        return (addresses,)
    if not isinstance(addresses, Sequence) or isinstance(addresses, bytes | bytearray | memoryview):
        raise TypeError(f"an address must be a str, or a list of str, not {type(addresses).__name__}")
    if not 1 <= len(addresses) <= MAX_BROKERS:
        raise ValueError(f"a list of addresses must have 1 to {MAX_BROKERS} of them, not {len(addresses)}")
    seen: dict[str, str] = {}
    for number, address in enumerate(addresses, 1):
        try:
            checked = check_address(address, bind=False)
        except (TypeError, ValueError) as error:
            raise type(error)(f"address {number} of the list: {error}") from None
        if checked.startswith("tcp://"):
            host, port = split_tcp(checked)
            checked = f"{host.lower()}:{port}"
        if checked in seen:
            raise ValueError(f"the addresses of a list must differ: {seen[checked]!r} and {address!r} do not")
        seen[checked] = address
    return tuple(addresses)


def split_addresses(text: str) -> list[str]:
    """Return the addresses of a text in which commas separate them. They are not checked."""
    return _COMMA.split(text.strip())


def _check_host(host: str, address: str) -> None:
    if host.startswith("["):
        from ipaddress import IPv6Address  # slow to import, and few addresses need it

        try:
            ip = IPv6Address(host[1:-1])
        except ValueError as error:
            raise ValueError(f"the host of an address in brackets must be an IPv6: {error}") from None
        if ip.is_link_local and ip.scope_id is None:
            raise ValueError(
                f"an address with a link-local IP needs its interface: [fe80::1%eth0], not {host}"
            )
        return
    try:
        # The codec itself is slow for a long text.
        encoded = host if host.isascii() or len(host) > MAX_HOST_BYTES else host.encode("idna").decode()
    except UnicodeError as error:
        raise ValueError(f"the host of the address {address!r} has no form for DNS (IDNA): {error}") from None
    name = encoded.removesuffix(".")
    if len(name) > MAX_HOST_BYTES or not all(1 <= len(part) <= MAX_LABEL_BYTES for part in name.split(".")):
        raise ValueError(
            f"the host of an address must have at most {MAX_HOST_BYTES} bytes, and 1 to {MAX_LABEL_BYTES}"
            f" between dots, not {host!r}"
        )
    if "," in encoded:
        raise ValueError(f"the host of an address must be one name or IP, not {host!r}")
    if not encoded.isprintable():
        raise ValueError(f"the host of an address must be printable, not {host!r}")


def split_tcp(address: str) -> tuple[str, int]:
    """Return the host and the port of a `tcp://` address that was checked."""
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def is_numeric(address: str) -> bool:
    """Return whether a checked address needs no lookup: it is not `tcp://`, or its host is an IP."""
    if not address.startswith("tcp://"):
        return True
    host, _ = split_tcp(address)
    return host.startswith("[") or _IPV4.fullmatch(host) is not None


def in_turn(ips: Iterable[str], port: int) -> tuple[str, ...]:
    """Return the addresses to connect to, in the order to try them.

    The families take turns, and the family of the first IP comes first (RFC 8305, section 4). So if one
    family does not work here, the other one is tried after a single attempt.
    """
    addresses = dict.fromkeys(f"tcp://[{ip}]:{port}" if ":" in ip else f"tcp://{ip}:{port}" for ip in ips)
    families: dict[bool, list[str]] = {}
    for address in addresses:
        families.setdefault(address.startswith("tcp://["), []).append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return tuple(address for address in turns if address is not None)[:MAX_ADDRESSES]


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
