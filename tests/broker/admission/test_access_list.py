"""The access list: what it may say, and which peers it lets join."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.switchboards import Desk, Peer, data, encoded_id, relay

from ringback.errors import Code, RejectCode
from ringback.protocol import control
from ringback.protocol.frames import Role
from ringback_broker.admission.access_list import AccessError, AccessList
from ringback_broker.admission.token_verifier import BadToken, Verified
from ringback_broker.daemon.key_files import AccessFile
from ringback_broker.peers.connection import Side

SHOP, CLI, MUTE, ANNA, BOB, NOBODY = (digit * 40 for digit in "123456")
TEXT = f"""
[[key]]
name = "shop"
role = "server"
public = "{SHOP}"
note = "on the big machine"

[[key]]
name = "cli"
role = "operator"
public = "{CLI}"

[[key]]
name = "mute"
role = "operator"
public = "{MUTE}"
sources = false

[[key]]
name = "anna"
role = "player"
public = "{ANNA}"
ids = [7, "anna"]

[[key]]
name = "bob"
role = "player"
public = "{BOB}"
ids = [8]
"""
SIGNER = """
[[token_key]]
name = "game"
public = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
"""
"""The public key comes from RFC 8037, appendix A."""


class Tokens:
    """Stands in for the verifier of tokens, which has its own tests."""

    def verify(self, token: str, client_key: str | None, now: float) -> Verified:
        player_id, _, left_s = token.partition(" ")
        if float(left_s) <= 0:
            raise BadToken("its time is over", expired=True)
        if player_id == "bad":
            raise BadToken("its signature is wrong")
        return Verified(int(player_id), "game", now + float(left_s))


def listed(text: str = TEXT) -> AccessList:
    access = AccessList.parse(text)
    if "token_key" in text:
        access._tokens = Tokens()  # type: ignore[assignment]
    return access


def hello(peer: Peer, role: Role, player_id: Any = None, token: str | None = None) -> control.ControlFrame:
    """Say HELLO, and return the reply."""
    peer.say(control.Hello(role, player_id, token=token))
    return peer.told()[-1]


def side_of(role: Role) -> Side:
    return Side.PLAYERS if role is Role.PLAYER else Side.BACKEND


def joins(desk: Desk, role: Role, key: str, player_id: Any = None, token: str | None = None) -> Peer:
    peer = desk.connect(side_of(role), public_key=key)
    welcome = hello(peer, role, player_id, token)
    assert isinstance(welcome, control.Welcome), welcome
    peer.link, peer.player_id = welcome.link, welcome.player_id
    return peer


def refused(
    desk: Desk, role: Role, key: str, player_id: Any = None, token: str | None = None
) -> control.Reject:
    peer = desk.connect(side_of(role), public_key=key)
    reject = hello(peer, role, player_id, token)
    assert isinstance(reject, control.Reject), reject
    assert peer.session is None and desk.counters.sessions_refused
    return reject


# -- the file


def test_rows() -> None:
    rows = AccessList.parse(TEXT + SIGNER).rows()
    assert len(AccessList.parse(TEXT + SIGNER)) == len(rows) == 6
    assert rows[0] == {"name": "shop", "role": "server", "public": SHOP, "note": "on the big machine"}
    assert rows[2] == {
        "name": "mute",
        "role": "operator",
        "public": MUTE,
        "sources": False,
        "orders": True,
        "note": "",
    }
    assert rows[3] == {"name": "anna", "role": "player", "public": ANNA, "ids": [7, "anna"], "note": ""}
    assert rows[5]["role"] == "token"


def test_an_empty_list_lets_nobody_in() -> None:
    access = AccessList.parse("# nobody yet")
    assert len(access) == 0
    assert not any(access.admits(side, SHOP) for side in Side)


def key(**fields: Any) -> str:
    merged = {"name": "x", "role": "server", "public": SHOP, **fields}
    lines = [f"{name} = {value!r}".replace("'", '"') for name, value in merged.items() if value is not None]
    return "\n".join(["[[key]]", *lines, ""]).replace("True", "true").replace("False", "false")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[key]", "not TOML"),
        ("audience = " + "[" * 100_000, "nested|TOML|deep"),
        ("audience = " + "1" * 10_000, "TOML|digits"),
        ("keys = []", "'keys' is unknown; the names are audience, key, token_key"),
        ("key = 5", r"\[\[key\]\]"),
        ("key = [5]", r"\[\[key\]\]"),
        ("audience = 5", "audience must be a str"),
        ('audience = ""', "audience must be a str"),
        (
            key(role="broker"),
            r"\[\[key\]\] 1 \(x\): role must be one of player, server, operator, not 'broker'",
        ),
        (key(role=None), "role must be one of"),
        (key(role=5), "role must be one of"),
        (key(role=["server"]), "role must be one of"),
        (key(name=None), "the name of a key pair must be a str"),
        (key(name="a b"), "the name of a key pair must be 1 to 64"),
        (key(name="x" * 65), "the name of a key pair must be 1 to 64"),
        (key(public=None), "a public key must be a str"),
        (key(public="x"), "40 characters of Z85"),
        (key(public="~" * 40), "40 characters of Z85"),
        (key(public="#" * 40), "40 characters of Z85"),
        (key(ids=[7]), "a server has no ids"),
        (key(role="player"), "a player needs ids"),
        (key(role="player", ids=[]), "a player needs ids"),
        (key(role="player", ids=7), "a player needs ids"),
        (key(role="player", ids=[0]), "1 to 2"),
        (key(role="player", ids=[True]), "an int or a str, not bool"),
        (key(role="player", ids=[1.5]), "an int or a str, not float"),
        (key(sources=False), "sources must be true or false, and only operators have it"),
        (key(role="operator", sources=1), "sources must be true or false"),
        (key(orders=False), "orders must be true or false, and only operators have it"),
        (key(note=5), "note must be a str"),
        (key(rol="server"), "'rol' is unknown"),
        (key() + key(name="y"), "'x' has the same public key"),
        (key() + key(public=CLI), "two .* have the name 'x'"),
        (SIGNER + SIGNER, "two .* have the name 'game'"),
        (SIGNER.replace("public", "publik"), "'publik' is unknown"),
        ("[[token_key]]\nname = 'game'", "public must be a str"),
        ("[[token_key]]\nname = 'game'\npublic = 'x'", r"\[\[token_key\]\] 1"),
        ("[[token_key]]\npublic = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo'", "the name of a key pair"),
    ],
)
def test_a_list_that_is_wrong(text: str, message: str) -> None:
    with pytest.raises(AccessError, match=message):
        AccessList.parse(text)


# -- who may join


@pytest.mark.parametrize(
    ("public", "sides"),
    [(SHOP, {Side.BACKEND}), (CLI, {Side.BACKEND}), (ANNA, {Side.PLAYERS}), (NOBODY, set())],
)
def test_which_connections_may_be_made(public: str, sides: set[Side]) -> None:
    assert {side for side in Side if listed().admits(side, public)} == sides
    with_tokens = listed(TEXT + SIGNER)
    assert with_tokens.admits(Side.PLAYERS, public) == (public in (ANNA, NOBODY))
    assert with_tokens.admits(Side.BACKEND, public) == (public in (SHOP, CLI))


def test_everybody_joins_as_what_the_list_says() -> None:
    desk = Desk(access=listed())
    joins(desk, Role.SERVER, SHOP)
    joins(desk, Role.OPERATOR, CLI)
    assert joins(desk, Role.PLAYER, ANNA).player_id == 7  # the first of its IDs
    assert joins(desk, Role.PLAYER, ANNA, "anna").player_id == "anna"
    assert joins(desk, Role.PLAYER, BOB, 8).player_id == 8


@pytest.mark.parametrize(
    ("role", "public", "player_id", "reason"),
    [
        (Role.SERVER, CLI, None, "this public key has the role operator, not server"),
        (Role.OPERATOR, SHOP, None, "this public key has the role server, not operator"),
        (Role.SERVER, ANNA, None, "this public key has the role player, not server"),
        (Role.PLAYER, SHOP, 7, "this public key has the role server, not player"),
        (Role.PLAYER, NOBODY, 7, "this public key is not on the access list, and the HELLO has no token"),
        (Role.PLAYER, "", 7, "this public key is not on the access list, and the HELLO has no token"),
        (Role.PLAYER, BOB, 7, "'bob' may not be player 7"),
        (Role.PLAYER, ANNA, "7", "'anna' may not be player '7'"),
    ],
)
def test_nobody_joins_as_something_else(role: Role, public: str, player_id: Any, reason: str) -> None:
    desk = Desk(access=listed())
    reject = refused(desk, role, public, player_id)
    assert (reject.code, reject.reason) == (RejectCode.UNAUTHORIZED, reason)


def test_tokens() -> None:
    desk = Desk(access=listed(TEXT + SIGNER))
    player = joins(desk, Role.PLAYER, NOBODY, None, "9 60")
    assert player.player_id == 9
    assert joins(desk, Role.PLAYER, ANNA, 8, "8 60").player_id == 8  # the token decides, not the access list
    assert refused(desk, Role.PLAYER, NOBODY, 10, "9 60").reason == "'game' may not be player 10"
    bad = refused(desk, Role.PLAYER, NOBODY, None, "bad 60")
    assert bad.code is RejectCode.UNAUTHORIZED
    assert bad.reason == "the token was refused: its signature is wrong"
    assert refused(desk, Role.PLAYER, NOBODY, None, "9 0").code is RejectCode.TOKEN_EXPIRED
    assert refused(desk, Role.SERVER, SHOP, None, "9 60").reason == "only players may join with a token"
    assert (
        refused(Desk(access=listed()), Role.PLAYER, ANNA, 7, "7 60").reason == "this broker accepts no tokens"
    )


def test_a_session_ends_with_its_token_whatever_the_wall_clock_does() -> None:
    desk = Desk(access=listed(TEXT + SIGNER), lease=1e6)
    server, player = joins(desk, Role.SERVER, SHOP), joins(desk, Role.PLAYER, NOBODY, None, "9 60")
    server.take()
    desk.unix_s += 1e6
    desk.now += 59.9
    desk.switchboard.tick(desk.now)
    assert player.session is not None
    desk.now += 0.1
    desk.switchboard.tick(desk.now)
    assert player.told()[-1] == control.Reject(RejectCode.TOKEN_EXPIRED, "the token has expired")
    assert server.told() == [control.Left((9,))]
    assert desk.counters.sessions_revoked == 1


# -- the same player again


def test_the_same_player_takes_its_own_place() -> None:
    desk = Desk(access=listed(TEXT + SIGNER))
    server, first = joins(desk, Role.SERVER, SHOP), joins(desk, Role.PLAYER, ANNA, 7)
    server.take()
    second = joins(desk, Role.PLAYER, ANNA, 7)
    reject = first.told()[-1]
    assert isinstance(reject, control.Reject) and reject.code is RejectCode.REPLACED
    assert first.session is None and second.session is not None
    assert server.told() == [control.Left((7,)), control.Joined((7,))]
    assert desk.counters.sessions_replaced == 1
    first_by_token = joins(desk, Role.PLAYER, NOBODY, None, "9 60")
    joins(desk, Role.PLAYER, ANNA, None, "9 60")
    assert first_by_token.session is None


def test_somebody_else_with_the_same_id_does_not() -> None:
    desk = Desk(access=listed(TEXT.replace("ids = [8]", "ids = [7]") + SIGNER))
    anna = joins(desk, Role.PLAYER, ANNA, 7)
    for key, token in ((BOB, None), (NOBODY, "7 60"), (ANNA, "7 60")):
        assert refused(desk, Role.PLAYER, key, 7, token).code is RejectCode.ID_TAKEN
    assert anna.session is not None
    without = Desk()
    without.player(7)
    peer = without.connect()
    assert hello(peer, Role.PLAYER, 7) == peer_taken()


def peer_taken() -> control.Reject:
    return control.Reject(RejectCode.ID_TAKEN, "another player with the ID 7 is connected")


def test_who_shows_the_ticket_takes_its_own_place() -> None:
    desk = Desk()
    server = shows(desk, Role.SERVER, b"")
    ticket = ticket_of(server)
    first = shows(desk, Role.PLAYER, b"", 7)
    shown = ticket_of(first)
    assert len(shown) == len(ticket) == 16 and shown != ticket
    server.take()
    assert shown.hex() not in repr(first.session) and repr(shown)[2:-1] not in repr(first.session)
    for wrong in (b"", bytes(16), ticket):
        refusal = shows(desk, Role.PLAYER, wrong, 7).rejected()
        assert refusal.code is RejectCode.ID_TAKEN
    assert first.session is not None and not first.take()
    second = shows(desk, Role.PLAYER, shown, 7)
    assert first.rejected().code is RejectCode.REPLACED
    assert server.told() == [control.Left((7,)), control.Joined((7,))]
    again = ticket_of(second)
    assert again != shown
    assert (
        shows(desk, Role.PLAYER, shown, 7).rejected().code is RejectCode.ID_TAKEN
    )  # it is of an older session
    for wrong in (b"", bytes(16), again):
        assert shows(desk, Role.SERVER, wrong).rejected().code is RejectCode.SERVER_TAKEN
    second.take()
    other = shows(desk, Role.SERVER, ticket)
    assert isinstance(other.take(), list) and server.rejected().code is RejectCode.REPLACED
    assert second.told() == [control.ServerDown(), control.ServerUp()]
    assert desk.counters.sessions_replaced == 2


def test_who_wants_no_ticket_gets_none() -> None:
    desk = Desk()
    for role, ticket in ((Role.PLAYER, None), (Role.SERVER, None), (Role.OPERATOR, b"")):
        [*_, welcome] = shows(desk, role, ticket).told()
        assert isinstance(welcome, control.Welcome) and welcome.ticket is None
    player = desk.player(7)
    assert player.session is not None and player.session.ticket == b""
    assert shows(desk, Role.PLAYER, b"", 7).rejected().code is RejectCode.ID_TAKEN  # empty is not a match


def test_a_ticket_lets_nobody_in() -> None:
    desk = Desk(access=listed())
    anna = shows(desk, Role.PLAYER, b"", 7, ANNA)
    ticket = ticket_of(anna)
    assert shows(desk, Role.PLAYER, ticket, 7, BOB).rejected().code is RejectCode.UNAUTHORIZED
    assert anna.session is not None
    shop = shows(desk, Role.SERVER, b"", None, SHOP)
    assert shows(desk, Role.SERVER, ticket_of(shop), None, CLI).rejected().code is RejectCode.UNAUTHORIZED
    assert shop.session is not None


def shows(desk: Desk, role: Role, ticket: bytes | None, player_id: Any = None, key: str = "") -> Peer:
    """Return a peer that has said HELLO with a ticket."""
    peer = desk.connect(side_of(role), public_key=key)
    peer.say(control.Hello(role, player_id, ticket=ticket))
    return peer


def ticket_of(peer: Peer) -> bytes:
    """Return the ticket in the WELCOME that came."""
    [*_, welcome] = peer.told()
    assert isinstance(welcome, control.Welcome) and welcome.ticket is not None
    return welcome.ticket


def test_a_player_that_takes_its_own_place_needs_no_room() -> None:
    desk = Desk(access=listed(), max_players=2)
    joins(desk, Role.PLAYER, BOB, 8)
    first = joins(desk, Role.PLAYER, ANNA, 7)
    joins(desk, Role.PLAYER, ANNA, 7)
    first.leave()
    assert refused(desk, Role.PLAYER, ANNA, "anna").code is RejectCode.FULL


def test_a_second_server_of_the_same_key_is_refused() -> None:
    desk = Desk(access=listed())
    joins(desk, Role.SERVER, SHOP)
    assert refused(desk, Role.SERVER, SHOP).code is RejectCode.SERVER_TAKEN


# -- another access list


def without(name: str, text: str = TEXT) -> AccessList:
    kept = [part for part in text.split("\n\n") if f'"{name}"' not in part]
    return listed("\n\n".join(kept))


def test_sessions_end_when_their_key_is_taken_off_the_list() -> None:
    text = TEXT + SIGNER
    desk = Desk(access=listed(text))
    shop, cli = joins(desk, Role.SERVER, SHOP), joins(desk, Role.OPERATOR, CLI)
    anna, bob = joins(desk, Role.PLAYER, ANNA, 7), joins(desk, Role.PLAYER, BOB)
    guest = joins(desk, Role.PLAYER, NOBODY, None, "9 60")
    desk.switchboard.use(listed(text))
    assert all(peer.session is not None for peer in (shop, cli, anna, bob, guest))
    desk.switchboard.use(without("bob", text))
    assert bob.told()[-1] == control.Reject(RejectCode.REVOKED, "the access list no longer admits 'bob'")
    assert cli.told()[-1] == control.Left((8,))
    desk.switchboard.use(without("anna", text))
    desk.switchboard.use(without("shop", TEXT))
    assert (anna.session, shop.session, guest.session) == (None, None, None)
    assert cli.session is not None
    assert desk.counters.sessions_revoked == 4


def test_servers_that_stand_by_or_retire_are_revoked_too() -> None:
    desk = Desk(access=listed())
    first, second, third = (stands_by(desk) for _ in range(3))
    first.say(control.Order(1, control.What.HAND_OVER))
    seven = joins(desk, Role.PLAYER, ANNA, 7)
    for peer in (first, second, third):
        peer.take()
    desk.switchboard.use(without("shop"))
    for peer in (first, second, third):
        assert peer.rejected().code is RejectCode.REVOKED and peer.session is None
    assert {type(frame) for frame in seven.told()} <= {control.ServerDown, control.ServerUp}
    assert desk.switchboard.roster.server is None and not desk.switchboard.roster.others


def stands_by(desk: Desk) -> Peer:
    peer = desk.connect(Side.BACKEND, public_key=SHOP)
    peer.say(control.Hello(Role.SERVER, standby=True, server_links=True))
    return peer


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("ids = [7,", "ids = [9,"),
        (f'role = "player"\npublic = "{ANNA}"\nids = [7, "anna"]', f'role = "server"\npublic = "{ANNA}"'),
    ],
)
def test_sessions_end_when_their_key_is_for_something_else_now(old: str, new: str) -> None:
    assert old in TEXT
    desk = Desk(access=listed())
    anna = joins(desk, Role.PLAYER, ANNA, 7)
    desk.switchboard.use(listed(TEXT.replace(old, new)))
    assert anna.session is None


def test_a_signer_whose_key_is_another_one_now() -> None:
    desk = Desk(access=listed(TEXT + SIGNER))
    guest = joins(desk, Role.PLAYER, NOBODY, None, "9 60")
    other = SIGNER.replace("11qY", "22qY")
    desk.switchboard.use(listed(TEXT + other))
    assert guest.session is None


def test_a_revoked_player_may_end_an_operator_whose_queue_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ringback_broker.switchboard.sending.MAX_BACKLOG", dict.fromkeys(Role, 1))
    desk = Desk(access=listed())
    anna, cli = joins(desk, Role.PLAYER, ANNA), joins(desk, Role.OPERATOR, CLI)
    desk.wire.full = {cli.routing_id}
    cli.say(control.Ping())
    desk.switchboard.use(listed(TEXT.replace(ANNA, NOBODY)))  # LEFT of anna is one frame too many for cli
    assert anna.session is None and cli.session is None
    assert desk.counters.sessions_too_slow == 1 and desk.counters.sessions_revoked == 1


def test_each_peer_whose_key_left_the_list_is_told_so() -> None:
    desk = Desk(access=listed())
    peers = [joins(desk, Role.PLAYER, ANNA), joins(desk, Role.OPERATOR, CLI), joins(desk, Role.SERVER, SHOP)]
    desk.switchboard.use(AccessList.parse(""))
    assert [peer.told()[-1].code for peer in peers] == [RejectCode.REVOKED] * 3
    assert desk.counters.sessions_revoked == 3 and not len(desk.switchboard.roster)


def test_a_list_where_there_was_none_ends_nobody() -> None:
    desk = Desk()
    player = desk.player(7)
    for access in (listed(), AccessList.parse("")):
        desk.switchboard.use(access)
        assert player.session is not None and desk.switchboard.access is access


# -- operators, sources and orders


def test_an_operator_may_be_kept_from_giving_orders() -> None:
    desk = Desk(access=listed(TEXT.replace("sources = false", "orders = false")))
    mute, cli = joins(desk, Role.OPERATOR, MUTE), joins(desk, Role.OPERATOR, CLI)
    anna = joins(desk, Role.PLAYER, ANNA, 7)

    def codes(peer: Peer) -> list[Code | None]:
        peer.take()
        peer.say(control.Order(1, control.What.KICK, 7))
        peer.say(control.Order(2, control.What.DRAIN))
        peer.say(control.Order(3, control.What.WATCH, for_ms=1000))
        peer.say(control.Query(4, control.Subject.CALLS))
        return [frame.code for frame in peer.told() if isinstance(frame, control.Answer)]

    assert codes(mute) == [Code.FORBIDDEN] * 4
    assert anna.session is not None and desk.wire.drains == []
    assert any("the operator 'mute' may not give orders" in report[2] for report in desk.wire.reports)
    assert codes(cli) == [None] * 4
    assert anna.session is None and desk.wire.drains == [None]
    desk.switchboard.use(listed(TEXT))
    assert codes(mute) == [Code.UNKNOWN_PLAYER, None, None, None]


def test_an_operator_may_be_kept_from_naming_sources() -> None:
    desk = Desk(access=listed())
    server = joins(desk, Role.SERVER, SHOP)
    mute, cli = joins(desk, Role.OPERATOR, MUTE), joins(desk, Role.OPERATOR, CLI)
    server.take()
    mute.send(encoded_id(7), relay(mute.link))
    assert mute.bounced()[1] is Code.FORBIDDEN
    assert not server.take() and desk.counters.bounced_forbidden == 1
    cli.send(encoded_id(7), relay(cli.link))
    assert len(server.take()) == 1
    anna = joins(desk, Role.PLAYER, ANNA, 7)
    anna.take()
    mute.send(encoded_id(7), data(mute.link))  # a call to a player names no source
    assert len(anna.take()) == 1
    desk.switchboard.use(listed(TEXT.replace("sources = false", "sources = true")))
    mute.send(encoded_id(7), relay(mute.link))
    assert [where for where, _ in server.take() if where] == [encoded_id(7)]


# -- IPs


def test_connections_that_one_ip_may_have() -> None:
    desk = Desk(ip_connections=2)
    first, second = (desk.connect(ip="a") for _ in range(2))
    third = desk.connect(ip="a")
    assert desk.wire.closed == [(third.side, third.connection)]
    assert desk.counters.connections_refused == 1
    desk.connect(ip="b")
    assert len(desk.wire.closed) == 1
    third.leave()
    first.leave()
    desk.connect(ip="a")
    assert len(desk.wire.closed) == 1
    assert hello(second, Role.PLAYER).type.name == "WELCOME"
    desk.connect(ip="a")
    assert len(desk.wire.closed) == 2  # sessions count too


def test_connections_that_one_ip_may_make_in_a_second() -> None:
    desk = Desk(ip_handshakes=4.0)
    for _ in range(4):
        desk.connect(ip="a").leave()
    desk.connect(ip="a")
    assert len(desk.wire.closed) == 1
    desk.connect(ip="b")
    desk.connect(ip="")  # on a Unix socket
    assert len(desk.wire.closed) == 1
    desk.now += 0.5
    for _ in range(2):
        desk.connect(ip="a")
    assert len(desk.wire.closed) == 1
    desk.connect(ip="a")
    assert len(desk.wire.closed) == 2
    desk.now += 10
    desk.switchboard.tick(desk.now)
    assert desk.switchboard.state.connections_by_ip._recent == {}


# -- a file that changes


def test_a_bug_in_reading_the_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "access.toml"
    path.write_text(TEXT)
    file = AccessFile(str(path))
    assert len(file.list) == 5 and file.take() is None

    def broken(text: str) -> AccessList:
        raise MemoryError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(AccessList, "parse", broken)
        assert read_anew(file).args == (f"{path}: MemoryError: no room",)
    assert len(read_anew(file)) == 5
    assert file.take() is None


def read_anew(file: AccessFile) -> Any:
    """Have the file read twice at a time, as two signals would. Return the last outcome."""
    results = []
    for _ in range(2):
        file.start_reading()
    while (thread := file._reading._thread) is not None:
        thread.join()
        results.append(file.take())
    return results[-1]
