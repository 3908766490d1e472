"""What a client takes straight from the socket, and what it leaves to nats-py: each in its turn, however the
bytes come."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable

import pytest
from support.harness import PATIENCE_S

from ringback_broker.nats import client as client_module
from ringback_broker.nats.client import Client, connect
from ringback_broker.nats.login import Login

INFO = b'INFO {"server_id":"x","version":"2.12.0","max_payload":1048576,"headers":true}\r\n'


class Script:
    """A server that says what a test tells it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def until(self, line: bytes) -> None:
        while not (await asyncio.wait_for(self.reader.readline(), PATIENCE_S)).startswith(line):
            pass

    async def answer(self, line: bytes, answer: bytes) -> None:
        await self.until(line)
        self.writer.write(answer)


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[tuple[Client, Script]]:
    """Return a client and its server, which have shaken hands."""
    scripts: asyncio.Queue[Script] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = Script(reader, writer)
        writer.write(INFO)
        await script.answer(b"PING", b"PONG\r\n")
        await scripts.put(script)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        address = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        client = await connect(Login((address,)), address, "tests", "_INBOX", lambda _: None)
        script = await scripts.get()
        try:
            yield client, script
        finally:
            script.writer.close()
            await client.end()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - nothing tells a test
            await asyncio.sleep(0)


def message(sid: int, payload: bytes, headers: bytes = b"") -> bytes:
    if not headers:
        return b"MSG s.%d %d %d\r\n%s\r\n" % (sid, sid, len(payload), payload)
    head = b"NATS/1.0\r\n%s\r\n\r\n" % headers
    return b"HMSG s.%d %d %d %d\r\n%s%s\r\n" % (sid, sid, len(head), len(head) + len(payload), head, payload)


@pytest.mark.parametrize("seed", range(20))
def test_each_message_comes_once_and_in_its_turn(seed: int) -> None:
    chance = random.Random(seed)

    async def run() -> None:
        async with scripted() as (client, script):
            taken: list[bytes] = []
            others: list[bytes] = []

            async def other(found: object) -> None:
                others.append(found.data)  # type: ignore[attr-defined]

            listened = await client.listen("s.1", lambda _subject, data: taken.append(data))
            watched = await client.subscribe("s.2", cb=other)
            assert (listened._id, watched._id) == (1, 2)
            await script.until(b"SUB s.2")
            stream, wanted, wanted_others, pings = bytearray(), [], [], 0
            for number in range(300):
                kind, size = chance.randrange(10), chance.choice((0, 1, 40, 5000))
                payload = b"%d " % number + chance.randbytes(size)
                if kind < 6:
                    stream += message(1, payload)
                    wanted.append(payload)
                elif kind < 8:
                    stream += message(2, payload, b"A: b" if kind == 7 else b"")
                    wanted_others.append(payload)
                elif kind == 8:
                    stream += message(1, payload, b"A: b")  # nats-py takes its headers off
                    wanted.append(payload)
                else:
                    stream += b"PING\r\n"
                    pings += 1
            at = 0
            while at < len(stream):
                size = chance.choice((1, 3, 50, 4000, 100_000))
                script.writer.write(bytes(stream[at : at + size]))
                await script.writer.drain()
                if chance.random() < 0.5:
                    await asyncio.sleep(0)
                at += size
            for _ in range(pings):
                await script.until(b"PONG")
            script.writer.write(message(1, b"the last"))
            await until(lambda: taken[-1:] == [b"the last"] and len(others) == len(wanted_others))
            assert taken == [*wanted, b"the last"]
            assert others == wanted_others

    asyncio.run(run())


def test_most_messages_do_not_pass_nats_py(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with scripted() as (client, script):
            taken: list[bytes] = []
            await client.listen("s.1", lambda _subject, data: taken.append(data))
            await script.until(b"SUB s.1")
            script.writer.write(b"PING\r\n")  # since then, nats-py waits for more
            await script.until(b"PONG")

            async def fail(*_: object) -> None:
                raise AssertionError

            monkeypatch.setattr(client, "_process_msg", fail)
            for number in range(100):
                script.writer.write(message(1, b"%d" % number))
                await until(lambda number=number: len(taken) > number)  # type: ignore[misc]

    asyncio.run(run())


def test_a_connection_that_ends_is_noticed() -> None:
    async def run() -> None:
        async with scripted() as (client, script):
            await client.listen("s.1", lambda _subject, _data: None)
            script.writer.write(message(1, b"x") + b"MSG s.1 1 5\r\nx")
            await script.writer.drain()
            script.writer.close()
            await until(lambda: not client.is_connected)

    asyncio.run(run())


def test_what_is_put_waits_for_a_server_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "BUFFER_BYTES", 100_000)

    async def run() -> None:
        async with scripted() as (client, script):
            count = 0
            while client.has_room:
                client.put([b"PUB s 100000\r\n", bytes(100_000), b"\r\n"])
                count += 1
            waiting = asyncio.ensure_future(client.wait_for_room())
            await asyncio.sleep(0)
            assert not waiting.done()
            for _ in range(count):
                await script.until(b"PUB s")
                await script.reader.readexactly(100_002)
            await asyncio.wait_for(waiting, PATIENCE_S)
            assert client.has_room
            assert client.is_connected

    asyncio.run(run())


def test_a_connection_that_is_lost_at_once_is_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A server answers, and is killed: nats-py notices it before `connect` returns."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(INFO)
        await Script(reader, writer).answer(b"PING", b"PONG\r\n")
        writer.close()

    async def run() -> None:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            address = f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            told: list[Exception] = []
            client = await connect(Login((address,)), address, "tests", "_INBOX", told.append)
            await until(lambda: not client.is_connected)
            assert told
            await client.end()

    for _ in range(5):
        asyncio.run(run())
    assert not [record for record in caplog.records if record.exc_info]
