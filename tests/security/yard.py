"""A broker with keys, a canary beside an attack, and checks of what the attack leaves behind."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest
import zmq
from support.harness import PATIENCE_S, READY, ROOT, BrokerProcess, Process, eventually
from support.rawpeers import RawPeer, Stage

import ringback
import ringback.aio
from ringback import LinkError, RejectCode
from ringback.credentials import KeyPair, new_key_pair, write_key_pair
from ringback.protocol import control
from ringback.protocol.frames import Role
from ringback.protocol.player_ids import PlayerID
from ringback.tokens import TokenKey, mint_token, new_token_key

CLEAR_S = 5.0
"""Within this time a refused peer must learn why. A busy machine gets a little more."""

REFUSALS = (
    *(
        "handshakes_refused",
        "handshakes_failed",
        "connections_refused",
        "sessions_refused",
        "sessions_revoked",
    ),
    *("malformed", "violations", "stranger_messages", "bounced_forbidden"),
)
"""The counters that must not grow where nothing is wrong."""

HANDSHAKE_FAILURES = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
    zmq.EVENT_DISCONNECTED,
)


class Vault:
    """A folder with the broker's key file and access list. It makes key pairs and tokens for all peers.

    Attributes:
        secrets: the texts that must not be in a log.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access = folder / "access.toml"
        self.secrets: set[str] = set()
        self._entries: dict[str, str] = {}
        self.broker = new_key_pair("broker", "broker")
        self.secrets.add(self.broker.secret)
        self.broker_file = write_key_pair(self.broker, folder)

    def pair(self, name: str, role: str, *ids: PlayerID, listed: bool = True, **more: Any) -> KeyPair:
        """Make a key pair, and add it to the list. The list is valid after `write`."""
        pair = new_key_pair(name, role, ids, self.broker.public)
        self.secrets.add(pair.secret)
        if listed:
            fields = {
                "name": name,
                "role": role,
                "public": pair.public,
                **({"ids": ids} if ids else {}),
                **more,
            }
            self._entries[name] = "[[key]]\n" + _toml(fields)
        return pair

    def token_key(self, name: str, listed: bool = True) -> TokenKey:
        key = new_token_key(name)
        self.secrets.add(key.secret)
        if listed:
            self._entries[name] = "[[token_key]]\n" + _toml({"name": name, "public": key.public})
        return key

    def token(self, key: TokenKey, player_id: PlayerID, **settings: Any) -> str:
        return self.keep(mint_token(key, player_id, **{"ttl": 3600, **settings}))

    def keep(self, token: str) -> str:
        """Add a token and its signature to the secrets, and return the token."""
        self.secrets |= {token, token.rpartition(".")[2]} - {""}
        return token

    def revoke(self, name: str) -> None:
        del self._entries[name]
        self.write()

    @property
    def text(self) -> str:
        return "".join(self._entries.values())

    def write(self, text: str | None = None) -> None:
        temporary = self.folder / "access.new"
        temporary.write_text(self.text if text is None else text)
        temporary.replace(self.access)


def _toml(fields: dict[str, Any]) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in fields.items())


@dataclass
class OddBroker:
    """A broker with these settings. Its access list raises for the poisoned public keys."""

    settings: dict[str, Any]
    poisoned: Sequence[str] = ()
    process: Process = field(init=False)

    def __post_init__(self) -> None:
        settings = {"players": "tcp://127.0.0.1:0", "backend": "tcp://127.0.0.1:0", **self.settings}
        script = str(ROOT / "tests" / "security" / "odd_broker.py")
        self.process = Process(script, json.dumps(settings), *self.poisoned)
        self.players, self.backend = self.process.wait_for(READY.pattern).groups()


class Yard(Stage):
    """A broker with an access list, and a server, a player and an operator that are connected to it.

    Args:
        settings: settings of the broker. None starts it with the command.

    Attributes:
        ann: a key pair of player 7, which is not connected.
        second: a key pair of a second operator, which is not connected.
    """

    mint: TokenKey

    def __init__(
        self, vault: Vault, settings: dict[str, Any] | None = None, poisoned: Sequence[str] = ()
    ) -> None:
        self.vault = vault
        keys = {
            Role.SERVER: vault.pair("the-server", "server"),
            Role.PLAYER: vault.pair("the-canary", "player", "canary"),
            Role.OPERATOR: vault.pair("the-operator", "operator"),
        }
        self.ann = vault.pair("ann", "player", 7)
        self.second = vault.pair("second", "operator")
        vault.write()
        files = {"key_file": str(vault.broker_file), "access": str(vault.access)}
        broker: Any
        if settings is None:
            options = tuple(word for k, v in files.items() for word in (f"--{k.replace('_', '-')}", v))
            broker = BrokerProcess(options=options)
        else:
            broker = OddBroker({**files, **settings}, poisoned)
        super().__init__(broker, keys)
        self.keys = keys
        self._sources = (f"127.77.{n // 250}.{n % 250 + 1}" for n in count())
        self._sdk_log = _Lines()

    def __enter__(self) -> Self:
        logging.getLogger("ringback").addHandler(self._sdk_log)
        super().__enter__()
        return self

    def __exit__(self, *arguments: object) -> None:
        """End all processes, and check that no log has a secret."""
        try:
            super().__exit__(*arguments)
            self.broker.process.signal(15)
            lines = self.broker.process.output()
        finally:
            logging.getLogger("ringback").removeHandler(self._sdk_log)
            self.broker.process.kill()
        check_logs([*lines, *self._sdk_log.lines], self.vault.secrets)

    def sees(self, *patterns: str) -> None:
        """Wait for these lines of the broker's log, in any order."""
        missing = list(patterns)
        while missing:
            line = self.broker.process.wait_for(missing[0] if len(missing) == 1 else "").string
            missing = [pattern for pattern in missing if not re.search(pattern, line)]

    @contextmanager
    def attack(self, *log: str, **counted: int) -> Iterator[str]:
        """Run a canary during an attack. Then wait until the broker has counted and logged the attack.

        Yield an IP for the attacker that nobody else uses.

        Args:
            log: patterns of log lines. `SOURCE` in them stands for the IP.
            counted: how much each of these counters grows at least.

        A line has no IP if libzmq closed the connection before the broker could ask for the IP.
        """
        source = next(self._sources)
        before = self.counters()
        with self.canary() as canary:
            yield source
            canary.sing_on()

            def all_counted() -> bool:
                now = self.counters()
                return all(now[name] - before[name] >= more for name, more in counted.items())

            eventually(all_counted, f"{counted} is counted: {before}")
            known = [pattern.replace("SOURCE no", "(SOURCE|somebody) no") for pattern in log]
            self.sees(*(pattern.replace("SOURCE", re.escape(source)) for pattern in known))

    @contextmanager
    def control(self) -> Iterator[None]:
        """Check that nothing is refused while the block runs."""
        before = self.counters()
        yield
        now = self.counters()
        assert {name: now[name] - before[name] for name in REFUSALS} == dict.fromkeys(REFUSALS, 0)

    @property
    def sdk_log(self) -> list[str]:
        return self._sdk_log.lines

    def address(self, role: Role) -> str:
        return str(self.broker.players if role is Role.PLAYER else self.broker.backend)

    def works(self, role: Role, keys: KeyPair, player_id: PlayerID | None = None, **fields: Any) -> None:
        """Check that a raw peer and both faces of the SDK join with the right key, and nothing is refused.

        There can be only one server, so for that role the connected server is the proof.
        """
        if role is Role.SERVER:
            assert self.server.connected
            return
        with self.control(), self.peer(role, keys=keys) as peer:
            peer.join(role, player_id, **fields)
            peer.send(*([] if role is Role.PLAYER else [b""]), control.encode(control.Bye()))
        for module in (ringback, ringback.aio):
            arguments: dict[str, Any] = {"player_id": player_id} if role is Role.PLAYER else {}
            make = getattr(module, role.capitalize())
            with self.control():
                start_and_close(make(self.address(role), key_file=keys, **arguments, **fields))


def start_and_close(endpoint: Any) -> None:
    if not isinstance(endpoint, ringback.aio.Player | ringback.aio.Server | ringback.aio.Operator):
        with endpoint:
            return

    async def run() -> None:
        async with endpoint:
            pass

    asyncio.run(run())


def refusals(role: Role, address: str, **settings: Any) -> list[LinkError]:
    """Start endpoints of both faces. Each must fail in time. Return their errors."""
    errors = []
    for module in (ringback, ringback.aio):
        endpoint = getattr(module, role.capitalize())(address, **settings)
        began = time.monotonic()
        with pytest.raises(LinkError) as caught:
            start_and_close(endpoint)
        assert time.monotonic() - began < CLEAR_S + 1
        errors.append(caught.value)
    return errors


def rejected(peer: RawPeer) -> tuple[RejectCode, str]:
    """Return code and reason of the next REJECT. Only messages about other peers may come before it."""
    while not isinstance(told := peer.told(), control.Reject):
        assert isinstance(told, control.Left | control.Joined | control.ServerUp | control.ServerDown), told
    return told.code, told.reason


def check_logs(lines: Sequence[str], secrets: set[str]) -> None:
    assert lines and secrets
    found = [(secret, line) for line in lines for secret in secrets if secret in line]
    assert found == []


class _Lines(logging.Handler):
    """All lines that the SDK has logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(levelname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def host_and_port(address: str) -> tuple[str, int]:
    host, port = address.removeprefix("tcp://").split(":")
    return host, int(port)


def dial(address: str, source: str) -> socket.socket:
    """Connect with TCP from an IP of this machine."""
    return socket.create_connection(host_and_port(address), PATIENCE_S, (source, 0))


def closed_by_broker(connection: Any) -> bytes:
    """Read until the broker has closed a TCP connection, and return all bytes."""
    connection.settimeout(PATIENCE_S)
    received = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(4096):
            received += data
    return received


def run_cli(*arguments: str) -> str:
    """Run a command, which must succeed, and return its output."""
    with Process("-m", "ringback_cli", *arguments) as process:
        code = process.wait()
        output = "\n".join(process.output())
    assert code == os.EX_OK, output
    return output
