"""What the kernel says about a connection: over loopback, round trips take microseconds, and are not 0."""

from __future__ import annotations

import socket
import sys

import pytest

from ringback_broker.net.kernel_connection import round_trip_ms, silence_ms

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs TCP_INFO of Linux")


def test_the_round_trip_time_of_a_tcp_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        with client, listener.accept()[0] as server:
            for _ in range(10):
                server.sendall(b"x")
                assert client.recv(1) == b"x"
                client.sendall(b"x")
                assert server.recv(1) == b"x"
            found = round_trip_ms(server.fileno())
            assert found is None or 0.001 <= found < 1000.0
            silence = silence_ms(server.fileno())
            assert silence is not None and 0 <= silence < 60_000


def test_a_connection_that_was_never_made_has_no_round_trip_time() -> None:
    with socket.socket() as unconnected:
        assert round_trip_ms(unconnected.fileno()) is None


def test_a_unix_socket_has_no_round_trip_time() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert round_trip_ms(one.fileno()) is None and silence_ms(one.fileno()) is None
