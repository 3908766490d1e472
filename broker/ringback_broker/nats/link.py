"""The link of a node to NATS: an event loop in turns, which connects again and again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import secrets
import time
from collections.abc import Callable

from nats import errors

from ringback_broker.cluster.frames import FramesTaker
from ringback_broker.cluster.records import Watcher
from ringback_broker.nats.bucket import differences, differs
from ringback_broker.nats.client import Client, connect
from ringback_broker.nats.frames import NatsFrames
from ringback_broker.nats.inlet import BURST, Inlet
from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.problems import (
    Problem,
    connection_lost,
    is_permission_problem,
    no_bucket,
    no_jetstream,
    permission_problem,
)
from ringback_broker.nats.records import NatsRecords
from ringback_broker.nats.requests import Requests
from ringback_broker.nats.turns import Turns
from ringback_broker.nats.watch import ANSWER_S, NoAnswer, Watch

log = logging.getLogger("ringback.broker")

AGAIN_S = 0.25, 2.0
"""How long to wait before connecting again: the shortest and the longest time."""

TICK_S = 0.1
REFRESH_S = 1.0
CLOSE_S = 3.0


class NatsLink:
    """The link of one node to NATS.

    The broker's loop polls `fileno`, and calls `take` when that is readable or when `due` has come. nats-py
    needs an event loop: it runs in turns, in `take`. Nothing here makes the broker's loop wait.

    Args:
        name: of this process, for those who look into NATS.
        fail: takes the line about a problem that waiting does not end, in a step of the loop. It is called
            once at most, and only before the first contact: later, a problem may be one of a server that is
            being repaired.
        contain: takes exceptions of what is handed to the loop.

    Attributes:
        node: the name of this node.
        records, frames: what the realm uses.
        address: of the server that it is connected to, or was the last time.
    """

    def __init__(
        self,
        login: Login,
        names: RealmNames,
        node: str,
        name: str,
        fail: Callable[[str], None],
        contain: Callable[[str, Exception], None],
    ) -> None:
        self._login = login
        self._names = names
        self.node = node
        self._name = name
        self._fail = fail
        self._contain = contain
        self._inlet = Inlet()
        self._turns = Turns()
        self._loop = self._turns.loop
        self._wanted = asyncio.Event()
        self.records = NatsRecords(names, self._inlet, self._wake)
        self.frames = NatsFrames(names, node, self._inlet, self._wake)
        self._watch = Watch(names, self._inlet)
        self._life: asyncio.Task[None] | None = None
        self._closing = self._failed = False
        self._connections = 0
        self._sends = False
        self._client: Client | None = None
        self.address = ""
        self._refused = ""
        self._reported: str | None = None
        self._had_contact = False

    def attach(self, watcher: Watcher, taker: FramesTaker) -> None:
        """Set what changes of records and messages arrive at. Call this before `start`."""
        self._watch.watcher, self.frames.taker = watcher, taker

    def start(self) -> None:
        """Connect, and connect again, until `close`."""
        self._life = self._loop.create_task(self._run())

    def fileno(self) -> int:
        """Return the descriptor that the broker's loop polls."""
        return self._turns.fileno()

    @property
    def due(self) -> float:
        """When `take` has something to do, even if nothing comes."""
        return 0.0 if len(self._inlet) else self._turns.due

    def take(self, now: float) -> None:
        """Send what waits, and hand over what has come, in a step of the broker's loop."""
        if len(self._inlet) < BURST:
            self._turns.run()
        self._inlet.take(now, self._contain)

    def flush(self) -> None:
        """Send the messages of a step, without a turn of the event loop."""
        if self._sends and not self.frames.pass_on(self._client, self._connections):
            self._wake()

    def close(self) -> None:
        """Send what waits, as far as that works at once, and disconnect. Closing twice does no harm."""
        if not self._closing:
            self._closing = True
            self._wanted.set()
            if self._life is None:  # it was never started
                self._turns.close()
            else:
                self._turns.end(self._life, CLOSE_S)

    def _wake(self) -> None:
        self._wanted.set()
        self._turns.due = 0.0

    # -- in turns

    async def _run(self) -> None:
        try:
            await self._live()
        except Exception:
            log.exception("the link to NATS failed; this is a fault of ringback")
            self._inlet.put(lambda _now: self._fail("the link to NATS failed; the log says why"))

    async def _live(self) -> None:
        shortest, longest = AGAIN_S
        wait_s = shortest
        addresses = list(self._login.addresses)
        random.shuffle(addresses)
        while not self._closing and not self._failed:
            problems: list[Problem] = []
            for address in addresses:
                if self._closing:
                    return
                try:
                    await self._use(address)
                    wait_s = shortest
                except Problem as problem:
                    problems.append(problem)
                else:
                    problems.clear()
            if problems:
                self._report(problems)
                await self._pause(wait_s)
                wait_s = min(2 * wait_s, longest)
        while not self._closing:
            await self._pause(longest)  # the broker ends

    def _report(self, problems: list[Problem]) -> None:
        """Say why there is no contact: once for each reason. End the broker if waiting does not help."""
        lasting = [problem for problem in problems if problem.lasts]
        text = str((lasting or problems)[0])
        if lasting and not self._had_contact:
            self._inlet.put(lambda _now: self._fail(text))
            self._failed = True
        elif text != self._reported:
            self._reported = text
            log.warning(
                "no contact with the realm %s: %s; trying again until there is", self._names.realm, text
            )

    async def _pause(self, seconds: float) -> None:
        """Wait, and refuse what is asked for meanwhile."""
        until = time.monotonic() + seconds
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._refuse_all()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), left)
            self._wanted.clear()

    def _refuse_all(self) -> None:
        self.records.fail_all()
        self.frames.pass_on(None, 0)

    async def _use(self, address: str) -> None:
        """Connect to a server, and use the connection until it is lost.

        Raises:
            Problem: there was no contact with the realm through this server.
        """
        self._refused = ""
        inbox = f"{self._names.inbox_of(self.node)}.{secrets.token_hex(8)}"
        connecting = asyncio.ensure_future(connect(self._login, address, self._name, inbox, self._on_error))
        while not connecting.done():  # meanwhile, what is asked for gets an answer
            self._refuse_all()
            await asyncio.wait({connecting}, timeout=TICK_S)
        client = connecting.result()
        self._client, self.address = client, address
        requests = Requests(client, inbox)
        self._connections += 1
        number = self._connections
        sending = ticking = None
        try:
            await requests.listen()
            await self.frames.listen_for_nobody(client, inbox)
            await self._watch.subscribe(client)
            await self.frames.subscribe(client)
            # If this user may not send frames, this is refused: with the flush, or with the first answer at
            # the latest.
            await client.publish(self._names.frames_to(self.node, b"\0"))
            await client.confirm(ANSWER_S)
            if self._refused:
                raise permission_problem(self._refused, self._names.realm)
            self.frames.connected(number, int(client.server.get("max_payload", 0)), inbox)
            self._sends = True
            sending = asyncio.ensure_future(self._send(client, requests, number))
            ticking = asyncio.ensure_future(requests.run())
            await self._keep_contact(client, requests, address)
        except (errors.Error, OSError) as error:
            raise connection_lost(address, error) from None
        finally:
            self._sends = False
            if self._closing and sending is not None and client.is_connected:
                await self._send_rest(client, requests, number)
            for task in (sending, ticking):
                if task is not None:
                    task.cancel()
            requests.close()
            self.frames.disconnected(number)
            await client.end()

    async def _keep_contact(self, client: Client, requests: Requests, address: str) -> None:
        """Read what all nodes know, and keep it fresh, until the connection is lost.

        Raises:
            Problem: there was never any contact through this connection.
        """
        had_contact = False
        while client.is_connected and not self._closing:
            try:
                await self._check_bucket(requests)
                await self._watch.read_all(requests)
            except NoAnswer:
                problem = no_jetstream(self._names)
                if self._refused:
                    problem = permission_problem(self._refused, self._names.realm)
            except Problem as found:
                problem = found
            else:
                had_contact = True
                self._welcome(client, address)
                await self._refresh(client, requests)
                self._watch.contact(False)
                if not client.is_connected and not self._closing:
                    self._reported = None
                    log.warning("the connection to NATS at %s was lost; connecting again", address)
                continue
            if not client.is_connected:
                break
            if problem.lasts and not self._had_contact:
                raise problem
            self._report([problem])
            await asyncio.sleep(REFRESH_S)
        if not had_contact and not self._closing:
            raise Problem(f"{address}: the connection was lost", lasts=False)

    async def _check_bucket(self, requests: Requests) -> None:
        answer = await requests.ask(self._names.info, b"", ANSWER_S)
        if self._refused:
            raise permission_problem(self._refused, self._names.realm)
        error = answer.get("error") or {}
        if error.get("code") == 404:
            raise no_bucket(self._names)
        if "config" not in answer:
            raise NoAnswer
        if found := differences(answer["config"], self._names):
            raise differs(self._names, found)

    def _welcome(self, client: Client, address: str) -> None:
        server = client.server
        self._had_contact, self._reported = True, None
        log.info(
            "in contact with the realm %s as node %s: NATS %s at %s",
            self._names.realm,
            self.node,
            server.get("version"),
            address,
        )
        self._watch.contact(True)

    async def _refresh(self, client: Client, requests: Requests) -> None:
        """Keep the watched records fresh. Return when that does not work any more."""
        with contextlib.suppress(NoAnswer):
            while client.is_connected and not self._closing:
                await self._watch.refresh(requests)
                for _ in range(round(REFRESH_S / TICK_S)):
                    if client.is_connected and not self._closing:
                        await asyncio.sleep(TICK_S)

    async def _send(self, client: Client, requests: Requests, number: int) -> None:
        """Send what the loop asks for, as long as the connection lasts."""
        with contextlib.suppress(errors.Error, OSError):
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                await self._send_all(client, requests, number)

    async def _send_all(self, client: Client, requests: Requests, number: int) -> None:
        await self.frames.subscribe(client)
        # Records go first: they are few, and a renewal must not wait for a crowd of frames.
        while await self.records.send(requests):
            await self.frames.subscribe(client)
        while client.is_connected and not self.frames.pass_on(client, number):
            await client.wait_for_room()
            while await self.records.send(requests):
                await self.frames.subscribe(client)

    async def _send_rest(self, client: Client, requests: Requests, number: int) -> None:
        with contextlib.suppress(errors.Error, OSError, asyncio.TimeoutError):
            await asyncio.wait_for(self._send_all(client, requests, number), 1.0)
            await client.flush(1)

    def _on_error(self, error: Exception) -> None:
        """Take what nats-py reports about a connection. That it is lost is noticed elsewhere."""
        if isinstance(error, errors.SlowConsumerError):
            self.frames.lose()
        text = str(error)
        if is_permission_problem(text):
            if self._had_contact and not self._refused:
                log.error("%s", permission_problem(text, self._names.realm))
            self._refused = text
