"""Making a realm: what an administrator of NATS does once."""

from __future__ import annotations

import asyncio

from ringback_broker.nats.bucket import create
from ringback_broker.nats.client import connect
from ringback_broker.nats.login import Login
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.problems import Problem, is_permission_problem, permission_problem


def make(login: Login, names: RealmNames, replicas: int) -> bool:
    """Make the bucket of a realm. Return whether it was made: False if it is there, as it must be.

    Raises:
        Problem: no server can be reached, NATS does not allow it, or has a bucket that differs.
    """
    return asyncio.run(_make(login, names, replicas))


async def _make(login: Login, names: RealmNames, replicas: int) -> bool:
    problems: list[Problem] = []
    refused: list[str] = []
    for address in login.addresses:
        try:
            client = await connect(
                login, address, "ringback realm create", "_INBOX", lambda error: refused.append(str(error))
            )
        except Problem as problem:
            problems.append(problem)
            continue
        try:
            return await create(client, names, replicas)
        except Problem:
            for text in refused:
                if is_permission_problem(text):
                    raise permission_problem(text, names.realm, "an administrator") from None
            raise
        finally:
            await client.end()
    raise next((problem for problem in problems if problem.lasts), problems[0])
