"""Tests of the proxy that the tests with faults use."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support.harness import PATIENCE_S, eventually

from ringback.testing.proxy import NONE, STALLED, Faults, Proxy


class Pair:
    """A client, and the connection that the proxy made for it."""

    def __init__(self, proxy: Proxy, listener: socket.socket) -> None:
        host, port = proxy.address.removeprefix("tcp://").split(":")
        self.client = socket.create_connection((host, int(port)), PATIENCE_S)
        self.target, _ = listener.accept()
        self.target.settimeout(PATIENCE_S)
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def proxy(listener: socket.socket) -> Iterator[Proxy]:
    with Proxy(f"tcp://127.0.0.1:{listener.getsockname()[1]}") as proxy:
        yield proxy


@pytest.fixture
def pair(proxy: Proxy, listener: socket.socket) -> Iterator[Pair]:
    pair = Pair(proxy, listener)
    with pair.client, pair.target:
        yield pair


def read(source: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count and (piece := source.recv(count - len(data))):
        data += piece
    return data


def seconds_for(pair: Pair, data: bytes) -> float:
    started = time.monotonic()
    pair.client.sendall(data)
    assert read(pair.target, len(data)) == data
    return time.monotonic() - started


def test_the_proxy_carries_both_ways_to_the_end(pair: Pair) -> None:
    big = bytes(range(256)) * 20_000  # more than all buffers on the way can hold
    writer = threading.Thread(target=lambda: (pair.client.sendall(big), pair.client.shutdown(socket.SHUT_WR)))
    writer.start()
    assert read(pair.target, len(big) + 1) == big
    writer.join()
    pair.target.sendall(b"still open this way")
    pair.target.close()
    assert read(pair.client, 100) == b"still open this way"


def test_a_delay_is_the_same_for_each_byte(proxy: Proxy, pair: Pair) -> None:
    proxy.set_faults(Faults(delay_s=0.2))
    started = time.monotonic()
    for number in range(10):
        pair.client.sendall(bytes([number]))
    assert read(pair.target, 10) == bytes(range(10))
    assert 0.2 <= time.monotonic() - started < 1.5


def test_nothing_arrives_while_a_connection_is_stalled(
    proxy: Proxy, pair: Pair, listener: socket.socket
) -> None:
    other = Pair(proxy, listener)
    with other.client, other.target:
        first, _ = proxy.connections
        proxy.set_faults(STALLED, [first])
        pair.client.sendall(b"held")
        pair.client.shutdown(socket.SHUT_WR)
        assert seconds_for(other, b"not held") < PATIENCE_S
        pair.target.setblocking(False)
        with pytest.raises(BlockingIOError):
            pair.target.recv(1)
        pair.target.settimeout(PATIENCE_S)
        proxy.set_faults(NONE)
        assert read(pair.target, 100) == b"held"


def test_each_slice_is_a_packet(proxy: Proxy, pair: Pair) -> None:
    proxy.set_faults(Faults(slice_bytes=1, bytes_per_s=200))
    pair.client.sendall(bytes(100))
    sizes: list[int] = []
    while sum(sizes) < 100:
        sizes.append(len(pair.target.recv(100)))
    assert len(sizes) > 1  # about 100, unless the machine stops the reader for half a second


def test_a_throttle_bounds_the_rate(proxy: Proxy, pair: Pair) -> None:
    proxy.set_faults(Faults(bytes_per_s=10_000))
    assert seconds_for(pair, bytes(4_000)) >= 0.3
    proxy.set_faults(NONE)
    assert seconds_for(pair, bytes(4_000)) < PATIENCE_S


@pytest.mark.parametrize("reset", [True, False])
def test_cut(proxy: Proxy, pair: Pair, reset: bool) -> None:
    proxy.set_faults(STALLED)
    pair.client.sendall(b"lost")
    assert proxy.cut(reset=reset) == 1
    for end in (pair.client, pair.target):
        if reset:
            with pytest.raises(ConnectionResetError):
                end.recv(1)
        else:
            assert end.recv(1) == b""
    assert proxy.connections == []


def test_a_target_that_does_not_listen(proxy: Proxy, listener: socket.socket) -> None:
    listener.close()
    host, port = proxy.address.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE_S) as client:
        assert client.recv(1) == b""
    eventually(lambda: proxy.connections == [], "the proxy has forgotten the connection")


def test_refused_connections(proxy: Proxy, pair: Pair, listener: socket.socket) -> None:
    host, port = proxy.address.removeprefix("tcp://").split(":")
    for _ in range(2):
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, int(port)), PATIENCE_S)
        assert seconds_for(pair, b"still open") < PATIENCE_S
        proxy.accept()
        other = Pair(proxy, listener)
        with other.client, other.target:
            assert seconds_for(other, b"open again") < PATIENCE_S
