"""Nodes that speak TLS with NATS."""

from __future__ import annotations

import socket
from pathlib import Path

from support.harness import PATIENCE_S
from support.nats_servers import make_certificates
from support.realm_processes import RealmOfProcesses, until_works


def test_a_realm_whose_nats_asks_for_certificates(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    with RealmOfProcesses("ab", certificates=tmp_path) as realm:
        server, far = realm.server("a"), realm.player("b", 1)
        until_works(lambda: far.trigger_server_callback("node"), "a")
        until_works(lambda: server.trigger_client_callback("node", 1), "b")
        # This server talks to nobody without TLS: it says so, and ends the connection.
        with socket.create_connection(("127.0.0.1", realm.nats.port), PATIENCE_S) as plain:
            said = plain.recv(4096)
            assert b'"tls_required":true' in said and b'"tls_verify":true' in said
            plain.sendall(b'CONNECT {"user": "node", "pass": "node-secret"}\r\nPING\r\n')
            answer = said = plain.recv(4096)
            while said:
                answer += (said := plain.recv(4096))
        assert b"PONG" not in answer
