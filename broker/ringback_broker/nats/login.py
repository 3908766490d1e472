"""How to log in to NATS: where, with which credentials, and over which TLS. The files are read here."""

from __future__ import annotations

import ssl
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ringback.systems import others_may_read
from ringback_broker.settings.schema import InvalidSetting

MAX_BYTES = 64 * 1024
_JWT = "BEGIN NATS USER JWT"
FORMS = (
    "a .creds file, a file with an nkey seed (SU...), or a TOML file with user and password, or with token"
)


@dataclass(frozen=True)
class Login:
    """How to log in to NATS.

    Attributes:
        addresses: of the servers: `nats://HOST:PORT` or `tls://HOST:PORT`.
        options: of nats-py's `connect`: the credentials.
        tls: None: as the server asks, with the certificates that the system trusts.
        must_encrypt: whether to refuse a server without TLS.
        has_credentials: whether there are any.
    """

    addresses: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict, repr=False)  # not the secrets
    tls: ssl.SSLContext | None = None
    must_encrypt: bool = False

    @property
    def has_credentials(self) -> bool:
        return bool(self.options)


def load_login(
    addresses: tuple[str, ...],
    credentials: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> Login:
    """Read the files, and return how to log in.

    Raises:
        InvalidSetting: a file cannot be used.
    """
    options = {} if credentials is None else _read_credentials(credentials)
    encrypts = any(address.startswith("tls://") for address in addresses)
    wants_tls = encrypts or ca is not None or cert is not None
    tls = _context(ca, cert, key) if wants_tls else None
    return Login(addresses, options, tls, wants_tls)


def _read_credentials(path: str) -> dict[str, Any]:
    try:
        with Path(path).open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise InvalidSetting("nats_credentials", f"{path}: {error.strerror}") from None
    if others_may_read(mode):
        why = f"{path}: other users may read this file: run chmod 600 {path}"
        raise InvalidSetting("nats_credentials", why)
    try:
        if len(raw) > MAX_BYTES:
            raise ValueError(f"it has more than {MAX_BYTES} bytes")
        return _parse_credentials(raw.decode(), path)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):  # their messages may have a part of a secret
        reason = "it has none of the known forms"
    except ValueError as error:
        reason = str(error)
    raise InvalidSetting("nats_credentials", f"{path}: {reason}; {FORMS} is allowed")


def _parse_credentials(text: str, path: str) -> dict[str, Any]:
    """Return the options of nats-py for the text of a file. Raise a ValueError if it has no known form."""
    seed = text.strip()
    if _JWT in text or (seed.startswith("SU") and seed.isalnum()):
        try:
            import nkeys  # type: ignore[import-untyped]
        except ImportError:
            from ringback.extras import install_command

            why = f"nkeys is not installed: {install_command('cluster')}"
            raise InvalidSetting("nats_credentials", why) from None
        if _JWT in text:
            if "BEGIN USER NKEY SEED" not in text:
                raise ValueError("it has no seed")
            return {"user_credentials": path}
        try:
            nkeys.from_seed(bytearray(seed.encode())).wipe()
        except Exception as error:  # nkeys raises many kinds
            raise ValueError("the seed is wrong") from error
        return {"nkeys_seed_str": seed}
    values = tomllib.loads(text)
    if {str} == {type(value) for value in values.values()} and set(values) in (
        {"user", "password"},
        {"token"},
    ):
        return values
    raise ValueError("it has other fields, or values that are no str")


def _context(ca: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    setting = "nats_ca"
    try:
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            setting = "nats_cert"
            context.load_cert_chain(cert, key, password="")  # a key with a password is an error, no question
    except ssl.SSLError as error:
        path, what = ca, "certificates"
        if setting == "nats_cert":
            path, what = f"{cert} with {key}", "a certificate and its key without a password"
        raise InvalidSetting(setting, f"{path}: {what} in PEM are allowed ({error.reason})") from None
    except OSError as error:
        path = ca if setting == "nats_ca" else f"{cert} or {key}"
        raise InvalidSetting(setting, f"{path}: {error.strerror}") from None
    return context
