"""An endpoint: its keys, its links and its load."""

from __future__ import annotations

from support.corefakes import Clock, Desk, FakeBroker, TestCall, data

from ringback.core.link_state import FIRST_DELAY_S
from ringback.errors import (
    Code,
    ServerTaken,
)
from ringback.protocol import control
from ringback.protocol.contexts import PROGRESS
from ringback.protocol.envelopes import Encoder
from ringback.protocol.frames import Role
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import encode_player_id

write = Encoder(Limits())


def connected(role: Role, *, link: int = 0, lease_ms: int = 30_000) -> Desk:
    desk = Desk(role)
    desk.connect(link=link, lease_ms=lease_ms)
    desk.shell.events.clear()
    return desk


# -- keys


def test_many_registrations_take_one_keys_frame() -> None:
    player = connected(Role.PLAYER)
    handles = [player.register(f"k{number}") for number in range(50)]
    player.flush()
    assert player.shell.told() == [control.Keys(("k", *(f"k{number}" for number in range(50))))]
    player.flush()
    assert player.shell.take_sent() == []
    for handle in handles:
        handle.unregister()
        handle.unregister()
    player.flush()
    assert player.shell.told() == [control.Keys(("k",))]


def test_registrations_without_a_link_are_in_hello() -> None:
    player = connected(Role.PLAYER)
    player.core.link_lost(player.clock.now, "cut")
    player.register("new")
    player.flush()
    player.wait(FIRST_DELAY_S)
    [hello] = player.shell.told()
    assert isinstance(hello, control.Hello) and hello.keys == ("k", "new")
    player.register("newer")
    player.flush()
    assert player.shell.take_sent() == []
    player.welcome()
    player.flush()
    assert player.shell.told() == [control.Keys(("k", "new", "newer"))]


# -- over a broker


def test_a_server_knows_a_player_or_will_with_its_next_step() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server, player = (broker.add(Desk(role, clock=clock)) for role in (Role.SERVER, Role.PLAYER))
    elsewhere = Desk(Role.PLAYER, clock=clock, player_id=8)
    assert not server.core.knows_player(elsewhere.core)  # it has no link
    broker.start(player, server)
    assert server.core.knows_player(player.core)
    clock.now += 1.0
    elsewhere.connect()
    assert server.core.knows_player(elsewhere.core)  # for all that the server can know
    clock.now += 1.0
    server.core.tick(clock.now)
    assert server.core.knows_player(player.core) and not server.core.knows_player(elsewhere.core)


def test_a_server_has_to_reply_to_a_call_until_it_may_have() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server, player = (broker.add(Desk(role, clock=clock)) for role in (Role.SERVER, Role.PLAYER))
    broker.start(player, server)
    server.core.tick(clock.now)
    clock.now += 1.0
    call = player.call()
    asking = player.call(context={PROGRESS: "1"})
    other = TestCall(call.id, "other", None)
    assert server.core.has_to_reply(call)  # it has read nothing since
    broker.run()
    server.core.tick(clock.now)
    assert [server.core.has_to_reply(one) for one in (call, asking, other)] == [True, True, False]
    first, second = server.handle()
    assert server.core.has_to_reply(call) and not server.core.has_to_reply(asking)
    first()
    second()
    assert not server.core.has_to_reply(call)
    broker.run()
    assert call.results == asking.results == ()


def test_a_server_is_replaced() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    first, second = (broker.add(Desk(Role.SERVER, clock=clock)) for _ in range(2))
    broker.start(player, first)
    second.core.start(clock.now, 1.0)
    broker.run()
    second.core.tick(clock.now + 1.0)
    assert isinstance(second.shell.starts.pop(), ServerTaken)
    call = player.call()
    broker.run()
    [execution] = first.handle()
    first.core.close()
    broker.run()
    assert call.outcome == (Code.SERVER_LOST, "maybe")
    alone = player.call()
    broker.run()
    assert alone.outcome == (Code.NO_SERVER, "no")
    broker.start(second)
    assert list(second.core.players) == [player.core.player_id]
    execution("too late")
    call = player.call()
    broker.run()
    for execution in second.handle():
        execution("hello")
    broker.run()
    assert call.results == ("hello",)
    for desk in (player, first, second):
        desk.check_at_rest()


def test_a_broker_comes_back() -> None:
    clock = Clock()
    broker = FakeBroker(clock)
    server = broker.add(Desk(Role.SERVER, clock=clock))
    player = broker.add(Desk(Role.PLAYER, clock=clock))
    broker.start(server, player)
    broker.down = True
    broker.cut(server)
    broker.cut(player)
    broker.wait(3.0)
    assert not server.core.connected and not player.core.connected
    broker.down = False
    broker.wait(1.1)
    assert server.core.connected and player.core.connected
    assert list(server.core.players) == [player.core.player_id]


# -- what an endpoint holds


def test_what_an_endpoint_holds() -> None:
    server = connected(Role.SERVER)
    assert set(server.core.load()) == {0}
    server.gets(data(write.call(1, "k", None, None)), encode_player_id(7))
    server.call(8)
    load = server.core.load()
    assert load._replace(queued_bytes=0) == (1, 1, 1, 1, 2, 1, 0, 0, 0, 0)
    assert load.queued_bytes == server.outbox.queued_bytes > 0


# -- brokers


def at(broker_id: int | None, role: Role = Role.PLAYER) -> Desk:
    desk = Desk(role)
    desk.core.start(desk.clock.now, 5.0)
    player_id = 1 if role is Role.PLAYER else None
    desk.told(control.Welcome(0, player_id, True, 30_000, "test", broker_id=broker_id))
    return desk


def test_two_endpoints_share_a_broker_if_both_links_go_to_it() -> None:
    one, other = at(5), at(5, Role.SERVER)
    assert one.core.shares_broker(other.core) and other.core.shares_broker(one.core)
    assert not one.core.shares_broker(at(6).core)
    assert not at(None).core.shares_broker(at(None).core)  # older brokers do not say which one they are
    other.core.link_lost(other.clock.now, "cut")
    assert not one.core.shares_broker(other.core) and not other.core.shares_broker(one.core)
