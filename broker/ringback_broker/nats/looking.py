"""A look at NATS from outside a broker: is it as a node needs it? Nothing there is changed."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any

from nats import errors

from ringback_broker.cluster.ids import IDS
from ringback_broker.cluster.owners import player_key
from ringback_broker.cluster.ownership import node_key
from ringback_broker.cluster.seat import SEAT
from ringback_broker.nats.bucket import differences, differs
from ringback_broker.nats.client import Client, connect
from ringback_broker.nats.facts import Bucket, NatsServerFacts
from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.problems import (
    Problem,
    connection_lost,
    is_permission_problem,
    no_bucket,
    no_jetstream,
)
from ringback_broker.nats.records import EXPECTED
from ringback_broker.nats.requests import Answer, Requests
from ringback_broker.nats.watch import ANSWER_S, WATCHED

NO_REVISION = str(2**62)
"""No record has this revision. So a write that names it is refused, after NATS has checked the permission."""

Try = Callable[[], Awaitable[object]]


def look(login: Login, names: RealmNames, node: str, within_s: float | None) -> list[NatsServerFacts]:
    """Look at each address by itself, all at the same time.

    Args:
        node: the name of a node, as which to try what nodes do.
        within_s: how long that may take; None: as long as it takes.
    """
    return asyncio.run(_look(login, names, node, within_s))


async def _look(login: Login, names: RealmNames, node: str, within_s: float | None) -> list[NatsServerFacts]:
    async def look_at(address: str) -> NatsServerFacts:
        try:
            return await asyncio.wait_for(_look_at(address, login, names, node), within_s)
        except TimeoutError:
            return NatsServerFacts(address, "no answer in time")
        except Problem as found:
            problem = found
        except (errors.Error, OSError) as error:
            problem = connection_lost(address, error)
        return NatsServerFacts(address, problem.text.removeprefix(f"{address}: "), problem.lasts)

    return list(await asyncio.gather(*map(look_at, login.addresses)))


async def _look_at(address: str, login: Login, names: RealmNames, node: str) -> NatsServerFacts:
    inbox = f"{names.inbox_of(node)}.{secrets.token_hex(8)}"
    heard: list[str] = []
    client = await connect(login, address, "ringback doctor", inbox, lambda error: heard.append(str(error)))
    ticking = None
    try:
        requests = Requests(client, inbox)
        ticking = asyncio.ensure_future(requests.run())
        began_at = time.monotonic()
        await client.flush(ANSWER_S)  # type: ignore[arg-type]  # a float does too
        took_ms = 1000 * (time.monotonic() - began_at)
        trial = _Trial(client, requests, names, node, heard)
        refused = await trial.refused()
        bucket = await _bucket(requests, names, refused)
        server = client.server
        return NatsServerFacts(
            address,
            name=str(server.get("server_name", "")),
            version=str(server.get("version", "")),
            took_ms=took_ms,
            encrypted=client.encrypted,
            max_payload=int(server.get("max_payload", 0)),
            has_jetstream=bool(server.get("jetstream")),
            bucket=bucket,
            refused=refused,
            too_much=await trial.too_much(),
        )
    finally:
        if ticking is not None:
            ticking.cancel()
        await client.end()


async def _bucket(requests: Requests, names: RealmNames, refused: tuple[str, ...]) -> Bucket:
    if any(text.startswith("subscribe") or names.info in text for text in refused):
        return Bucket("this user may not ask for it")
    answer = await requests.ask(names.info, b"", ANSWER_S)
    error = answer.get("error") or {}
    if error.get("code") == 404:
        return Bucket(no_bucket(names).text, is_there=False)
    if "config" not in answer:
        return Bucket(error.get("description") or no_jetstream(names).text)
    found = differences(answer["config"], names)
    return _bucket_of(answer, differs(names, found).text if found else "")


def _bucket_of(answer: Answer, problem: str) -> Bucket:
    cluster: dict[str, Any] = answer.get("cluster") or {}
    behind = tuple(
        str(replica.get("name"))
        for replica in cluster.get("replicas") or ()
        if replica.get("offline") or not replica.get("current")
    )
    made_at, replicas = str(answer.get("created")), int(answer["config"].get("num_replicas", 0))
    return Bucket(problem, True, made_at, replicas, str(cluster.get("leader", "")), behind)


class _Trial:
    """What a user may do, found out by trying. Nothing that is tried has an effect.

    Args:
        heard: what nats-py reports about the connection. A step here empties it.
    """

    def __init__(
        self, client: Client, requests: Requests, names: RealmNames, node: str, heard: list[str]
    ) -> None:
        self._client = client
        self._requests = requests
        self._names = names
        self._node = node
        self._heard = heard

    async def refused(self) -> tuple[str, ...]:
        """Do all that a node does. Return the permissions that are missing, as docs/scale.md names them."""
        names, node = self._names, self._node
        keys = node_key(node), SEAT, IDS, player_key(b"x")
        hears, sends, writes = f"ringback.{names.realm}.>", f"ringback.{names.realm}.n.>", f"{names.records}>"
        tries: list[tuple[str, Try]] = [
            (f"subscribe {hears}", self._requests.listen),
            (f"subscribe {hears}", self._subscribes(names.frames_to(node, b"\0"))),
            *((f"subscribe {hears}", self._subscribes(names.changes + key)) for key in WATCHED),
            (f"publish {sends}", self._publishes(names.frames_to(node, b"\0"))),
            *((f"publish {writes}", self._publishes(names.records + key, writes=True)) for key in keys),
            (f"publish {names.info}", self._publishes(names.info)),
            (f"publish {names.read}", self._publishes(names.read)),
        ]
        return tuple(dict.fromkeys([words for words, work in tries if await self._is_refused(work)]))

    async def too_much(self) -> tuple[str, ...]:
        """Try what a node does not need, on things that do not exist. Return what is allowed, in words."""
        names, nobody = self._names, f"doctor-{secrets.token_hex(8)}"
        other = RealmNames(nobody)
        tries: list[tuple[str, Try]] = [
            ("delete buckets", self._publishes(f"$JS.API.STREAM.DELETE.{nobody}")),
            ("empty buckets", self._publishes(f"$JS.API.STREAM.PURGE.{nobody}")),
            ("tell nodes of records as NATS does", self._publishes(names.changes + nobody)),
            ("send to nodes of other realms", self._publishes(other.frames_to("x", b"\0"))),
            ("hear other realms", self._subscribes(other.frames_to("x", b"\0"))),
        ]
        return tuple([words for words, work in tries if not await self._is_refused(work)])

    def _subscribes(self, subject: str) -> Try:
        return lambda: self._client.listen(subject, lambda _subject, _payload: None)

    def _publishes(self, subject: str, *, writes: bool = False) -> Try:
        headers = {EXPECTED: NO_REVISION} if writes else None
        return lambda: self._client.publish(subject, b"", headers=headers)

    async def _is_refused(self, work: Try) -> bool:
        self._heard.clear()
        await work()
        await self._client.confirm(ANSWER_S)
        return any(map(is_permission_problem, self._heard))
