"""Checks of what a test passes: an error names the mistake at once, where it was made."""

from __future__ import annotations

from ringback import aio, blocking
from ringback._roles.base import RoleBase


def check_endpoint(endpoint: object) -> None:
    """Check that something is an endpoint.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(endpoint, RoleBase):
        raise TypeError(
            "an endpoint must be a Server, a Player or an Operator,"
            f" not {type(endpoint).__name__}{_hint(endpoint)}"
        )


def check_server(server: object) -> None:
    """Check that something is a server.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(server, (blocking.Server, aio.Server)):
        raise TypeError(f"the server must be a Server, not {type(server).__name__}{_hint(server)}")


def _hint(given: object) -> str:
    return ": await it first" if hasattr(given, "__await__") else ""
