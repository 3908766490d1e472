"""Questions to NATS and their answers: which answer belongs to which question, and which ones are overdue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from ringback_broker.nats.client import Client

Answer = dict[str, Any]
"""What NATS says, decoded from JSON. Empty: nothing came in time, or nobody answers."""

Take = Callable[[Answer], None]

EXPIRE_S = 0.1
"""How often overdue questions are looked for."""


class Requests:
    """The questions of one connection.

    nats-py has requests too. They cost a task and a timer each; these cost an entry in a table.

    Args:
        inbox: what the subjects of the answers begin with.
    """

    def __init__(self, client: Client, inbox: str) -> None:
        self._client = client
        self._inbox = inbox
        self._number = 0
        self._waiting: dict[bytes, tuple[float, Take]] = {}

    async def listen(self) -> None:
        """Take answers from now on."""
        await self._client.listen(f"{self._inbox}.*", self._take)

    async def send(
        self, subject: str, payload: bytes, headers: dict[str, str] | None, until: float, take: Take
    ) -> None:
        """Send a question. `take` gets the answer, once.

        Args:
            until: when to stop waiting, on the clock of the event loop.

        Raises:
            nats.errors.Error: the connection is lost. Then `take` gets nothing.
        """
        self._number += 1
        number = str(self._number)
        token = number.encode()
        self._waiting[token] = until, take
        try:
            await self._client.publish(subject, payload, f"{self._inbox}.{number}", headers)
        except BaseException:
            self._waiting.pop(token, None)
            raise

    async def ask(self, subject: str, payload: bytes, within_s: float) -> Answer:
        """Send a question, and return the answer; empty if none came."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def take(answer: Answer) -> None:
            if not future.done():
                future.set_result(answer)

        await self.send(subject, payload, None, loop.time() + within_s, take)
        return await future

    def _take(self, subject: bytes, data: bytes) -> None:
        entry = self._waiting.pop(subject.rpartition(b".")[2], None)
        if entry is not None:
            entry[1](_decode(data))

    async def run(self) -> None:
        """Give up overdue questions. When the connection is lost, give up all of them."""
        while self._client.is_connected:
            self.expire(asyncio.get_running_loop().time())
            await asyncio.sleep(EXPIRE_S)
        self.close()

    def expire(self, now: float) -> None:
        """Give up the questions that have waited long enough. They come first in the table."""
        overdue = [token for token, (until, _) in self._waiting.items() if now >= until]
        for token in overdue:
            self._waiting.pop(token)[1]({})

    def close(self) -> None:
        """Give all questions up."""
        waiting, self._waiting = self._waiting, {}
        for _, take in waiting.values():
            take({})


def _decode(data: bytes) -> Answer:
    try:
        answer = json.loads(data) if data else {}  # without data: nobody answers
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
