"""What a look at NATS finds: facts about each server, and about the realm in it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """What NATS says about the bucket of a realm.

    Attributes:
        problem: why the realm cannot be used; "": it can.
        is_there: False: there is no such bucket. True: there is one, or nobody knows.
        made_at: when the bucket was made, in the words of NATS. No other bucket has the same time.
        replicas: on how many servers each record is.
        leader: the server that leads them; "": there is none, or NATS is one server.
        behind: the servers with a replica that are gone, or do not have the latest records.
    """

    problem: str
    is_there: bool = True
    made_at: str = ""
    replicas: int = 0
    leader: str = ""
    behind: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NatsServerFacts:
    """What one address of NATS is.

    Attributes:
        address: as in the settings.
        problem: why there is no connection; "": there is one, and then the other fields hold.
        lasts: whether waiting does not help.
        name: of the server.
        took_ms: how long a message there and back took.
        encrypted: whether the connection has TLS.
        has_jetstream: whether this server keeps records.
        bucket: of the realm.
        refused: the permissions that a node needs and this user does not have.
        too_much: what NATS allows beyond that, in words.
    """

    address: str
    problem: str = ""
    lasts: bool = False
    name: str = ""
    version: str = ""
    took_ms: float = 0.0
    encrypted: bool = False
    max_payload: int = 0
    has_jetstream: bool = False
    bucket: Bucket = Bucket("")
    refused: tuple[str, ...] = ()
    too_much: tuple[str, ...] = ()
