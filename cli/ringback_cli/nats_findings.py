"""What `ringback doctor` says about NATS: each address by itself, and the realm there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ringback_cli.findings import Finding, Verdict

if TYPE_CHECKING:
    from ringback_broker import BrokerSettings
    from ringback_broker.nats.facts import NatsServerFacts

ADVISED_PAYLOAD = 2_000_000
"""A frame of ringback and what is around it. NATS reads 2MB as 2 MiB; who writes 2000000 is fine too."""

PERMISSIONS = "docs/scale.md has the permissions of a node"


def nats_findings(settings: BrokerSettings, within_s: float | None) -> Iterator[Finding]:
    """Look at NATS, if the settings name it.

    Args:
        within_s: how long that may take; None: as long as it takes.
    """
    if settings.cluster is None:
        return
    from ringback_broker.daemon.nats_side import look_at_nats
    from ringback_broker.settings.schema import InvalidSetting

    try:
        servers = look_at_nats(settings, within_s)
    except InvalidSetting as error:
        yield Finding(error.setting, Verdict.FAILED, error.reason, "docs/scale.md")
        return
    there = [server for server in servers if not server.problem]
    for server in servers:
        yield _address(server, others=bool(there))
    if there:
        yield (jetstream := _jetstream(there))
        if jetstream.verdict is Verdict.OK:
            yield from _realm(settings, there)
        yield _max_payload(there)
        yield _permissions(there)


def _address(server: NatsServerFacts, others: bool) -> Finding:
    from ringback.protocol.addresses import is_local

    if server.problem:
        if server.lasts:
            return Finding(
                server.address, Verdict.FAILED, server.problem, "a broker stops then: docs/scale.md"
            )
        if others:
            return Finding(server.address, Verdict.WARNING, server.problem, "brokers use the other addresses")
        advice = "start NATS, or correct cluster; a broker waits until NATS is there"
        return Finding(server.address, Verdict.FAILED, server.problem, advice)
    how = "with TLS" if server.encrypted else "without TLS"
    found = f"NATS {server.version}, {server.name}, answers in {server.took_ms:.1f} ms, {how}"
    if not server.encrypted and not is_local(server.address.replace("nats://", "tcp://")):
        advice = "others could read credentials and frames: set tls in NATS, and write tls:// here"
        return Finding(server.address, Verdict.WARNING, found, advice)
    return Finding(server.address, Verdict.OK, found)


def _jetstream(servers: list[NatsServerFacts]) -> Finding:
    on = [server for server in servers if server.has_jetstream]
    if on or any(server.bucket.made_at for server in servers):
        return Finding("jetstream", Verdict.OK, f"on at {len(on)} of {len(servers)} addresses")
    advice = 'set jetstream { store_dir: "..." } in the configuration of NATS'
    return Finding("jetstream", Verdict.FAILED, f"off at {_list(servers)}", advice)


def _realm(settings: BrokerSettings, servers: list[NatsServerFacts]) -> Iterator[Finding]:
    what = f"realm {settings.realm}"
    if broken := [server for server in servers if server.bucket.problem]:
        found = broken[0].bucket.problem
        if len(broken) < len(servers):
            found = f"at {_list(broken)}: {found}"
        yield Finding(what, Verdict.FAILED, found, _realm_advice(settings, broken[0]))
    elif len({server.bucket.made_at for server in servers}) > 1:
        advice = "join the servers to one by a cluster block in each, and keep one of the buckets"
        yield Finding(what, Verdict.FAILED, "several servers have a bucket of their own each", advice)
    else:
        yield Finding(what, Verdict.OK, "its bucket is as it must be")
        yield _replicas(settings, servers[0])


def _realm_advice(settings: BrokerSettings, server: NatsServerFacts) -> str:
    if not server.bucket.is_there:
        return "this needs the credentials of an administrator"
    if server.bucket.made_at:
        return f"an administrator can delete it, and make it with `ringback realm create {settings.realm}`"
    if server.refused:
        return PERMISSIONS
    return "look again in ten seconds: most servers must run, and they elect a leader first"


def _replicas(settings: BrokerSettings, server: NatsServerFacts) -> Finding:
    bucket = server.bucket
    stream = f"KV_ringback-{settings.realm}"
    if bucket.replicas < 3:
        found = f"{bucket.replicas}: the realm stands still while a server with its records is gone"
        advice = f"run three servers of NATS, and set the replicas of the stream {stream} to 3"
        return Finding("replicas", Verdict.WARNING, found, advice)
    gone = f"; gone or behind: {', '.join(bucket.behind)}" if bucket.behind else ""
    if not bucket.leader:
        found = f"{bucket.replicas}, and no server leads them, so nothing can be written{gone}"
        return Finding(
            "replicas", Verdict.FAILED, found, "most of these servers must run, and reach each other"
        )
    found = f"{bucket.replicas}, led by {bucket.leader}"
    if gone:
        advice = "start these servers, and look at their logs"
        return Finding("replicas", Verdict.WARNING, found + gone, advice)
    return Finding("replicas", Verdict.OK, f"{found}; all have the latest records")


def _max_payload(servers: list[NatsServerFacts]) -> Finding:
    least = min(server.max_payload for server in servers)
    small = [server for server in servers if server.max_payload < ADVISED_PAYLOAD]
    if small:
        found = f"{least} bytes at {_list(small)}: the largest frames take several messages"
        return Finding(
            "max_payload", Verdict.WARNING, found, "set max_payload: 2MB in the configuration of NATS"
        )
    return Finding("max_payload", Verdict.OK, f"{least} bytes")


def _permissions(servers: list[NatsServerFacts]) -> Finding:
    if refused := [server for server in servers if server.refused]:
        texts = dict.fromkeys(text for server in refused for text in server.refused)
        found = f"at {_list(refused)}, this user may not {', '.join(texts)}"
        return Finding("permissions", Verdict.FAILED, found, PERMISSIONS)
    if free := [server for server in servers if server.too_much]:
        words = dict.fromkeys(word for server in free for word in server.too_much)
        found = f"more than a node needs: this user may also {', '.join(words)}"
        return Finding("permissions", Verdict.WARNING, found, PERMISSIONS)
    return Finding("permissions", Verdict.OK, "what a node needs, and no more")


def _list(servers: list[NatsServerFacts]) -> str:
    return ", ".join(server.address for server in servers)
