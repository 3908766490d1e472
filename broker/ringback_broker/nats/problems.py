"""Problems with NATS, each in one line that says what to do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from dataclasses import dataclass

from nats import errors

from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames

MIN_VERSION = (2, 10)
"""Older servers get no fixes any more, and nothing here is tested with them."""


@dataclass(frozen=True)
class Problem(Exception):
    """Why there is no contact with a realm.

    Attributes:
        text: one line: what is wrong, and what to do.
        lasts: whether waiting does not help: a setting is wrong, here or in NATS.
    """

    text: str
    lasts: bool

    def __str__(self) -> str:
        return self.text


class NotEncrypted(errors.Error):
    """The server does not ask for TLS."""


def problem_of(error: BaseException, address: str, login: Login) -> Problem:
    """Return what an exception of a connection attempt means."""
    text = str(error).removeprefix("nats: ").strip("'\"").lower()
    if isinstance(error, NotEncrypted):
        why = "this server has no TLS, which tls://, nats_ca and nats_cert ask for: set tls in it"
        return Problem(f"{address}: {why}", lasts=True)
    if isinstance(error, ssl.SSLCertVerificationError):
        why = f"the server's certificate is not valid here: {error.verify_message}"
        return Problem(f"{address}: {why}; nats_ca names the file of its authority", lasts=True)
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or str(error)).lower().replace("_", " ")
        hint = (
            "; the server wants a certificate: set nats_cert and nats_key" if "certificate" in reason else ""
        )
        return Problem(f"{address}: TLS failed: {reason}{hint}", lasts="certificate" in reason)
    if "authentication timeout" in text:  # nothing was refused: NATS got no credentials in its time
        why = "NATS did not wait for the credentials: it, this broker or the network is slow"
        return Problem(f"{address}: {why}", lasts=False)
    if "authorization violation" in text or "authentication" in text:
        if login.has_credentials:
            why = "NATS refuses the credentials of nats_credentials"
        else:
            why = "NATS asks for credentials: set nats_credentials (--nats-credentials)"
        return Problem(f"{address}: {why}", lasts=True)
    if "expecting info message" in text:
        return Problem(f"{address}: what listens there does not speak as NATS does", lasts=False)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError, errors.TimeoutError)):
        return Problem(f"{address}: no answer in time", lasts=False)
    if isinstance(error, socket.gaierror):
        return Problem(f"{address}: its name cannot be resolved: {error.strerror}", lasts=False)
    if isinstance(error, OSError):
        return Problem(f"{address}: {os.strerror(error.errno) if error.errno else error}", lasts=False)
    return Problem(f"{address}: {text or type(error).__name__}", lasts=False)


def connection_lost(address: str, error: Exception) -> Problem:
    """Return that a connection was lost, and why."""
    why = str(error).removeprefix("nats: ") or type(error).__name__
    return Problem(f"{address}: the connection was lost: {why}", lasts=False)


def is_permission_problem(text: str) -> bool:
    """Return whether nats-py reports that NATS does not allow something."""
    return "permissions violation" in text


def permission_problem(text: str, realm: str, role: str = "a node") -> Problem:
    """Return what it means that NATS does not allow something."""
    what = text.removeprefix("nats: ")
    hint = f"the user needs the permissions of {role} of the realm {realm!r} (docs/scale.md)"
    return Problem(f"NATS refuses: {what}; {hint}", lasts=True)


def no_bucket(names: RealmNames) -> Problem:
    """Return that there is no such realm."""
    make = f"`ringback realm create {names.realm}`"
    return Problem(f"NATS has no realm {names.realm!r}: make it with {make}, or correct realm", lasts=True)


def no_jetstream(names: RealmNames) -> Problem:
    """Return that nothing answers for the records."""
    why = f"nothing in NATS answers for the realm {names.realm!r}: no leader yet, or JetStream is off"
    return Problem(why, lasts=False)


def too_old(address: str, version: str) -> Problem:
    """Return that a server is too old."""
    wanted = ".".join(map(str, MIN_VERSION))
    return Problem(f"{address}: this is NATS {version}, and ringback needs {wanted} or newer", lasts=True)


def version_of(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version; zeros if it has none."""
    numbers = text.split("-")[0].split(".")[:2]
    return (
        (int(numbers[0]), int(numbers[1])) if len(numbers) == 2 and "".join(numbers).isdecimal() else (0, 0)
    )
