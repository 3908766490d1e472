"""The bucket of a realm: how it is made, and what is checked before it is used."""

from __future__ import annotations

import json
import time
from typing import Any

from nats import errors
from nats.js import api
from nats.js.errors import APIError

from ringback_broker.nats.client import Client
from ringback_broker.nats.names import RealmNames
from ringback_broker.nats.problems import Problem

MAX_AGE_S = 6 * 3600.0
"""How long a record, or the marker of a deleted one, stays if nobody writes it again."""

MAX_RECORD_BYTES = 64 * 1024

ASK_S = 3.0
ANSWER_S = 10.0
"""How long NATS may take to make a bucket: it elects a leader first."""

NEEDED: dict[str, Any] = {
    "storage": "file",  # memory storage loses the bucket when most servers restart
    "retention": "limits",
    "discard": "new",
    "max_msgs_per_subject": 1,
    "max_age": int(MAX_AGE_S * 1e9),
    "max_msg_size": MAX_RECORD_BYTES,
    "allow_direct": False,  # a copy that lags behind must not answer
    "deny_delete": True,
    "allow_rollup_hdrs": False,  # a node must not wipe the records of others in one message
}
"""What the stream below a bucket must have, as NATS itself says it."""

IN_WORDS = {
    "max_msgs_per_subject": "history",
    "max_age": "the age at which records end, in ns",
    "max_msg_size": "the largest record, in bytes",
}


def config_of(names: RealmNames, replicas: int) -> api.StreamConfig:
    """Return how the stream of a bucket is made."""
    return api.StreamConfig(
        name=names.stream,
        description=f"the records of ringback's realm {names.realm}",
        subjects=[f"{names.records}>"],
        storage=api.StorageType.FILE,
        retention=api.RetentionPolicy.LIMITS,
        discard=api.DiscardPolicy.NEW,
        max_msgs_per_subject=1,
        max_age=MAX_AGE_S,
        max_msg_size=MAX_RECORD_BYTES,
        num_replicas=replicas,
        allow_direct=False,
        deny_delete=True,
        allow_rollup_hdrs=False,
        first_seq=first_revision(),
        republish=api.RePublish(src=f"{names.records}>", dest=f"{names.changes}>"),
    )


def first_revision() -> int:
    """Return the first revision of a bucket that is made now: higher than any that an earlier one has had.

    A node may believe in a record of a bucket that is lost. If the revision came back for another record of
    the name, a compare-and-set would take that one for its own. A realm writes less often than once a
    microsecond.
    """
    return int(time.time() * 1e6)


def differences(config: dict[str, Any], names: RealmNames, replicas: int | None = None) -> list[str]:
    """Return how a stream differs from what a bucket must be, each in words.

    Args:
        config: of the stream, as NATS tells it.
        replicas: how many there shall be; None: any number.
    """
    wanted = {**NEEDED, "subjects": [f"{names.records}>"]}
    found = [
        f"{IN_WORDS.get(key, key)} is {config.get(key)}, not {value}"
        for key, value in wanted.items()
        if config.get(key, False) != value
    ]
    republish = config.get("republish") or {}
    ways = republish.get("src"), republish.get("dest")
    if ways != (f"{names.records}>", f"{names.changes}>"):
        found.append(f"republish is {ways[0]} to {ways[1]}, not {names.records}> to {names.changes}>")
    if replicas is not None and config.get("num_replicas") != replicas:
        found.append(f"replicas is {config.get('num_replicas')}, not {replicas}")
    return found


def differs(names: RealmNames, found: list[str]) -> Problem:
    """Return that a bucket is not as it must be."""
    text = "; ".join(found)
    return Problem(f"the bucket {names.bucket} is not as ringback needs it: {text}", lasts=True)


async def create(client: Client, names: RealmNames, replicas: int) -> bool:
    """Make the bucket of a realm. Return whether it was made: False if it is there, as it must be.

    Raises:
        Problem: it is there and differs, or NATS does not make it.
    """
    try:
        found = await client.request(names.info, timeout=ASK_S)
        config = json.loads(found.data).get("config")
        if config is None:
            await client.jetstream(timeout=ANSWER_S).add_stream(config_of(names, replicas))
            return True
    except APIError as error:
        why = error.description or f"error {error.err_code}"
        raise Problem(f"NATS does not make the bucket {names.bucket}: {why}", lasts=True) from None
    except errors.NoRespondersError:
        raise Problem("NATS runs without JetStream: set jetstream in its configuration", lasts=True) from None
    except errors.Error as error:
        why = str(error).removeprefix("nats: ") or "no answer in time"
        raise Problem(f"NATS does not make the bucket {names.bucket}: {why}", lasts=False) from None
    if others := differences(config, names, replicas):
        how = f"change the stream {names.stream} with NATS' own tools, or delete it, which ends all sessions"
        raise Problem(f"{differs(names, others)}; {how}", lasts=True)
    return False
