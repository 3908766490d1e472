"""Simulated realms: several brokers, records with revisions, messages between nodes, and their faults.

The records answer late or not at all; a request may take effect after its time-out.
Messages between nodes are lost, delayed and cut off. Each pair of nodes keeps its order, but for messages
that were on their way when a connection was cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from sim.broker_process import BrokerProcess
from sim.endpoint_process import NAME, EndpointProcess
from sim.simulation import Place, Simulation

from ringback.core.shell import EndpointEvent
from ringback.protocol.frames import FrameType, Role
from ringback_broker.cluster.cluster import Cluster
from ringback_broker.cluster.lookup import FIND_WITHIN_S
from ringback_broker.cluster.ownership import node_key
from ringback_broker.cluster.records import RECORD_WITHIN_S, Absent, Conflict, Done, Outcome, Record, Unknown
from ringback_broker.cluster.seat import SEAT
from ringback_broker.nats.watch import FRESH_S
from ringback_broker.peers.connection import Sent, Side
from ringback_broker.peers.session import Session
from ringback_broker.settings.schema import BrokerSettings

LEASE_S = 5.0
REALM_RUN_S = 25.0


@dataclass
class Engine:
    """How bad the engine of the realm is.

    Attributes:
        delay_s: the longest delay of a request, an answer or a message.
        lost: how often a request or an answer is lost.
        late: how often a request takes effect only after its time-out.
        dropped: how often a message between nodes is lost.
        lag_s: how much later a change of a watched record is told.
        down: whether nothing is answered and nothing passed on.
    """

    delay_s: float = 0.001
    lost: float = 0.0
    late: float = 0.0
    dropped: float = 0.0
    lag_s: float = 0.001
    down: bool = False


class Store:
    """The records of the realm, as the engine has them.

    Attributes:
        is_lost: whether there is no bucket. Whatever is asked for is refused then.
    """

    def __init__(self) -> None:
        self.make(0.0)

    def make(self, now: float) -> None:
        """Make the bucket, empty. No revision comes back."""
        self.records: dict[str, Record] = {}
        self.revision = int(now * 1e6)
        self.is_lost = False

    def put(self, key: str, value: bytes, revision: int) -> Outcome:
        if self.is_lost:
            return Unknown()
        there = self.records.get(key)
        if (there.revision if there else 0) != revision:
            return Conflict()
        self.revision += 1
        self.records[key] = Record(value, self.revision)
        return self.records[key]

    def delete(self, key: str, revision: int) -> Outcome:
        if self.is_lost:
            return Unknown()
        there = self.records.get(key)
        if there is None or there.revision != revision:
            return Conflict()
        self.revision += 1
        del self.records[key]
        return Absent()

    def read(self, key: str) -> Outcome:
        return Unknown() if self.is_lost else self.records.get(key, Absent())


class Node:
    """The engine of one broker: its records and its messages.

    Attributes:
        cut: whether nothing of it gets through.
    """

    def __init__(self, realm: RealmSimulation, name: str, process: BrokerProcess) -> None:
        self.name = name
        self.process = process
        self.boot = b""
        self.cut = False
        self.max_bytes = realm.max_bytes
        self._realm = realm
        self._world = realm.world
        self._last_at: dict[str, float] = {}

    # -- records

    def put(self, key: str, value: bytes, revision: int, done: Done) -> None:
        self._ask(lambda: self._realm.store.put(key, value, revision), done, key)

    def delete(self, key: str, revision: int, done: Done) -> None:
        self._ask(lambda: self._realm.store.delete(key, revision), done, key)

    def read(self, key: str, done: Done) -> None:
        self._ask(lambda: self._realm.store.read(key), done, "")

    def _ask(self, happen: Callable[[], Outcome], done: Done, key: str) -> None:
        world, engine = self._world, self._realm.engine
        over: list[bool] = []

        def tell(outcome: Outcome) -> None:
            if not over:
                over.append(True)
                self.hear(lambda now: done(outcome, now))

        world.after(RECORD_WITHIN_S, tell, Unknown())
        if world.chance(engine.lost):
            return
        late_s = RECORD_WITHIN_S * 4 * world.random.random() if world.chance(engine.late) else 0.0
        world.after(late_s + engine.delay_s * world.random.random(), self._happen, happen, tell, key)

    def _happen(self, happen: Callable[[], Outcome], tell: Callable[[Outcome], None], key: str) -> None:
        world, engine = self._world, self._realm.engine
        if self.cut or engine.down:
            return
        outcome = happen()
        if key and isinstance(outcome, Record | Absent):
            self._realm.changed(key)
        if not world.chance(engine.lost):
            world.after(engine.delay_s * world.random.random(), tell, outcome)

    # -- messages

    def listen(self, boot: bytes) -> None:
        self.boot = boot

    def send(self, node: str, boot: bytes, parts: tuple[bytes, ...], epoch: int = 0) -> Sent:
        world, engine = self._world, self._realm.engine
        if self.cut:
            return world.random.choice([Sent.YES, Sent.GONE]) if len(parts) < 2 else Sent.GONE
        if not world.chance(engine.dropped):
            at = world.now + engine.delay_s * world.random.random()
            at = self._last_at[node] = max(at, self._last_at.get(node, 0.0))
            world.after(at - world.now, self._arrive, node, boot, parts, self.boot, epoch)
        return Sent.YES

    def _arrive(
        self, node: str, boot: bytes, parts: tuple[bytes, ...], sender: bytes, epoch: int = 0
    ) -> None:
        other = self._realm.nodes.get(node)
        if other is not None and (other.cut or self.cut) and self._world.chance(0.5):
            # It takes another way, and may arrive behind what is sent over the next connection.
            late_s = 3.0 * self._world.random.random()
            self._world.after(late_s, self._arrive, node, boot, parts, sender, epoch)
            return
        if epoch and self._is_absent(other, boot):
            delay_s = self._realm.engine.delay_s * self._world.random.random()
            self._world.after(delay_s, self._nobody, node, boot, epoch)
        blocked = (self.name, node) in self._realm.blocked
        if other is None or other.boot != boot or other.cut or self.cut or self._realm.engine.down or blocked:
            return
        nodes = other.process.switchboard.realm.other_nodes
        other.hear(lambda now: nodes.from_node(self.name, sender, parts, now))

    def _is_absent(self, other: Node | None, boot: bytes) -> bool:
        """Return whether the engine knows that nobody is there. It may not know of one that is cut off."""
        if other is None or other.boot != boot or not other.process.alive:
            return True
        return other.cut and self._world.chance(0.5)

    def _nobody(self, node: str, boot: bytes, epoch: int) -> None:
        """Tell the broker that nobody was there to take a message."""
        if not self.cut and not self._realm.engine.down:
            nodes = self.process.switchboard.realm.other_nodes
            self.hear(lambda now: nodes.nobody(node, boot, epoch, now))

    # -- what the broker hears

    def hear(self, heard: Callable[[float], object]) -> None:
        if self.process.alive:
            self.process.inbox.add(heard)

    def tell(self, key: str) -> None:
        """Tell the broker of a watched record, as it is by now."""
        now_is = self._realm.store.read(key)
        if not self.cut and not self._realm.engine.down and isinstance(now_is, Record | Absent):
            realm = self.process.switchboard.realm
            self.hear(lambda now: realm.changed(key, now_is, now))

    def connected(self) -> None:
        """Tell it all that is watched, and that there is contact."""
        if not self._realm.store.is_lost:
            for key in self._realm.told:
                self.tell(key)
            realm = self.process.switchboard.realm
            self.hear(lambda now: realm.contact(True, now))

    def disconnected(self) -> None:
        """Tell the broker that the records cannot be reached."""
        if not self.cut and not self._realm.engine.down and self._realm.store.is_lost:
            realm = self.process.switchboard.realm
            self.hear(lambda now: realm.contact(False, now))


class RealmProcess(BrokerProcess):
    """A node. It notes which endpoint gets calls."""

    def __init__(self, sim: RealmSimulation, settings: BrokerSettings, max_connections: int, name: str):
        self.sim = sim
        super().__init__(sim.world, settings, max_connections, name, self._join)
        nodes = self.switchboard.realm.other_nodes
        send = nodes._send

        def counted(node: str, id_part: bytes, frame: Any) -> Sent:
            sent: Sent = send(node, id_part, frame)
            if sent is Sent.YES and frame[:1] != b"\0":
                self.count(bytes(frame))
            return sent

        nodes._send = counted

    def _join(self, process: BrokerProcess) -> Cluster:
        node = self.sim.nodes[self.name] = Node(self.sim, self.name, process)
        self.node = node
        return Cluster(self.name, LEASE_S, node, node)

    def sends(self, routing_id: bytes, frame: bytes) -> None:
        if frame[1] not in (FrameType.DATA, FrameType.BUNDLE, FrameType.RELAY):
            return
        for side in Side:
            session = self.switchboard.roster.by_routing_id[side].get(routing_id)
            link = self.routers[side].peers.get(routing_id)
            if session is not None and link is not None and link.open_below:
                self.sim.gets_calls(session, link.endpoint)


class Dialer(EndpointProcess):
    """An endpoint that has a list of the nodes' addresses, or one name that leads to any of them."""

    sim: RealmSimulation

    def address_of(self, broker: str) -> str:
        return broker if broker in self.sim.addresses else super().address_of(broker)

    def open_link(self, address: str, heartbeat_ms: int) -> None:
        name = self.sim.addresses.get(address) or self.world.random.choice(self.sim.names)
        self._find = partial(self.sim.router_of, name)
        super().open_link(address, heartbeat_ms)

    def event(self, event: EndpointEvent, argument: Any) -> None:
        super().event(event, argument)
        if event is EndpointEvent.DISCONNECTED and argument.startswith("REPLACED"):
            others = [life for life in self.sim.lives if life is not self and life.place == self.place]
            assert others, f"{self.name} is replaced, and nobody else has its ID"
            self.later(0.0, self.close)  # it does not connect again


class RealmSimulation(Simulation):
    """The run of one seed with several nodes.

    Attributes:
        addresses: the name of the node at each address.
        names: the nodes. At the end one may be gone for good; some endpoints still have its address.
    """

    run_s = REALM_RUN_S
    operations = 150
    fault_counts = 1, 4, 10, 15
    lookup_s = 2 * FIND_WITHIN_S + 0.5  # two lookups, each of which ends at a tick
    with_serial = False  # they are about one endpoint, and would make planted faults of nodes rarer

    def __init__(self, seed: int, tracing: bool = False) -> None:
        super().__init__(seed, tracing)
        random = self.world.random
        self.names = [f"node{i}" for i in range(random.choice([1, 2, 3, 3, 3]))]
        self.addresses: dict[str, str] = {}
        self.store = Store()
        self.max_bytes = random.choice([2**20, 2**20, 600])
        self.nodes: dict[str, Node] = {}
        self.told: dict[str, None] = {}
        self.blocked: set[tuple[str, str]] = set()
        self.weather_of_engine = Engine(
            delay_s=random.choice([0.0005, 0.005, 0.05]),
            lost=random.choice([0.0, 0.0, 0.02, 0.2]),
            late=random.choice([0.0, 0.0, 0.05, 0.3]),
            dropped=random.choice([0.0, 0.0, 0.0, 0.002, 0.05]),
            lag_s=random.choice([0.0005, 0.01, 0.5]),
        )
        self.engine = Engine(**vars(self.weather_of_engine))
        self.delay_between_nodes_s = 2 * self.engine.delay_s
        self._latest: dict[Any, list[Session]] = {}
        self._owners_from = 0.0

    # -- the processes

    def router_of(self, name: str, side: Side) -> Any:
        node = self.nodes.get(name)
        return None if node is None or not node.process.alive else node.process.routers[side]

    def start_broker(self) -> None:
        if not self.addresses:
            self.addresses = {f"tcp://192.0.2.{i + 10}:1": name for i, name in enumerate(self.names)}
        for name in self.names:
            self.start_node(name)

    def start_node(self, name: str) -> None:
        node = self.nodes.get(name)
        if node is None or not node.process.alive:
            process = RealmProcess(self, self.broker_settings, self.max_connections, name)
            self.brokers.append(process)
            self.world.note(name, "starts")
            self.world.after(self.engine.lag_s, process.node.connected)

    def endpoint(self, *arguments: Any) -> EndpointProcess:
        Dialer.sim = self
        some = tuple(self.addresses)
        if len(some) > 2 and self.world.chance(0.3):
            some = some[:2]
        return Dialer(*arguments, some if self.world.chance(0.7) else (NAME,))

    def alive_nodes(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.process.alive]

    def changed(self, key: str) -> None:
        """Tell all nodes of a watched record, each a little later."""
        if key == SEAT or key.startswith(node_key("")):
            self.told[key] = None
            for node in list(self.nodes.values()):
                self.world.after(self.engine.lag_s * self.world.random.random(), node.tell, key)

    # -- one owner

    def gets_calls(self, session: Session, endpoint: Any) -> None:
        """Check that no session gets calls after a later one of the same place has got some.

        What the records of a lost bucket allowed may still be used while a lease lasts.
        """
        if self.store.is_lost or self.world.now < self._owners_from:
            self._latest.clear()
            return
        if session.role is Role.OPERATOR or (
            session.duty is not None and session is not self._acting(session)
        ):
            return
        for other in self._others(session):
            assert other is endpoint, f"{other.name} and {endpoint.name} both get calls as {session.name}"
        place = "server" if session.duty is not None else session.player_id
        sessions = self._latest.setdefault(place, [])
        if sessions and sessions[-1] is session:
            return
        assert session not in sessions, f"two sessions of {place!r} get calls at one time, at {endpoint.name}"
        sessions.append(session)

    def _others(self, session: Session) -> Iterator[Any]:
        """Yield the endpoints of other sessions that would get calls in place of this one."""
        for node in self.alive_nodes():
            roster, realm = node.process.switchboard.roster, node.process.switchboard.realm
            is_server = session.duty is not None
            other = roster.server if is_server else roster.players.get(session.encoded_id)
            if other is None or other is session or not realm.ownership.acts(self.world.now):
                continue
            link = node.process.routers[other.side].peers.get(other.routing_id)
            if link is not None and link.open_above and link.open_below and link.endpoint.alive:
                yield link.endpoint

    def _acting(self, session: Session) -> Session | None:
        for node in self.alive_nodes():
            if node.process.switchboard.roster.server is session:
                return session
        return None

    # -- faults

    def faults(self) -> list[Callable[[], None]]:
        return [
            self._kill,
            self._close,
            self._stop,
            self._cut,
            self._reset,
            self._join_twice,
            self._kill_broker,
            self._kill_broker,
            self._stop_broker,
            self._stop_broker,
            self._cut_node,
            self._cut_node,
            self._block,
            self._engine_down,
            self._lose_bucket,
            self._drain,
        ]

    def _span(self) -> float:
        return self.world.random.choice([0.01, 0.5, 4.0, 9.0]) * self.world.random.random()

    def _node(self) -> Node | None:
        return self._one(self.alive_nodes())

    def _kill_broker(self) -> None:
        node = self._node()
        if node is not None:
            self._go_on_broker(node.process)
            node.process.kill()
            self.world.after(self._span(), self._start_node_again, node.name)

    def _start_node_again(self, name: str) -> None:
        if not self._healing:
            self.start_node(name)

    def _drain(self) -> None:
        node = self._node()
        if node is not None:
            node.process.daemon.stop()
            node.process.wake(0.0)
            self.world.after(self._span() + 0.5, self._start_node_again, node.name)

    def _stop_broker(self) -> None:
        node = self._node()
        if node is not None and not node.process.stopped:
            self._write({"t": self.world.now, "who": node.name, "what": "stop"})
            node.process.stop()
            self.world.after(self._span(), self._go_on_broker, node.process)

    def _go_on_broker(self, broker: BrokerProcess) -> None:
        if broker.alive and broker.stopped:
            self._write({"t": self.world.now, "who": broker.name, "what": "continue"})
            broker.go_on()

    def _cut_node(self) -> None:
        """Cut a node off from the engine."""
        node = self._node()
        if node is not None:
            node.cut = True
            self.world.after(self._span(), self._mend_node, node)

    def _mend_node(self, node: Node) -> None:
        if node.cut:
            node.cut = False
            if node.process.alive:
                nodes = node.process.switchboard.realm.other_nodes
                node.hear(lambda now: nodes.interrupted(now))
                self.world.after(self.engine.lag_s, node.connected)

    def _block(self) -> None:
        """Lose the messages of one node to another one."""
        if len(self.names) > 1:
            pair = tuple(self.world.random.sample(self.names, 2))
            self.blocked.add(pair)
            self.world.after(self._span(), self.blocked.discard, pair)

    def _engine_down(self) -> None:
        self.engine.down = True
        self.world.after(self._span(), self._engine_up)

    def _engine_up(self) -> None:
        if self.engine.down:
            self.engine.down = False
            for node in self.alive_nodes():
                self.world.after(self.engine.lag_s, node.connected)

    def _lose_bucket(self) -> None:
        """Lose all records. Somebody makes the bucket anew."""
        self.store.is_lost = True
        self.world.note("engine", "loses the bucket")
        for node in self.alive_nodes():
            self.world.after(self.engine.lag_s * self.world.random.random(), node.disconnected)
        self.world.after(self._span(), self._make_bucket)

    def _make_bucket(self) -> None:
        if self.store.is_lost:
            self.store.make(self.world.now)
            self._owners_from = self.world.now + LEASE_S
            self.world.note("engine", "has a new bucket")
            for node in self.alive_nodes():
                self.world.after(self.engine.lag_s + FRESH_S * self.world.random.random(), node.connected)

    # -- the end

    def heal_broker(self) -> None:
        self._engine_up()
        self._make_bucket()
        self.engine = Engine()
        self.blocked.clear()
        for node in self.alive_nodes():
            self._go_on_broker(node.process)
            self._mend_node(node)
        if len(self.names) > 2 and self.world.chance(0.3):
            gone = self._one(self.names)
            self.names.remove(gone)
            if (node := self.nodes.get(gone)) is not None and node.process.alive:
                node.process.kill()
        self.world.run(LEASE_S)  # renewals that were lost before may still end a lease

    def _whole(self) -> bool:
        """Return whether all endpoints and all nodes are connected, and each node knows who serves."""
        boards = self.boards()
        linked = all(len(board.roster.nodes) == len(self.names) - 1 for board in boards)
        served = all(board.roster.is_served for board in boards)
        return len(boards) == len(self.names) and linked and served and super()._whole()

    def boards(self) -> list[Any]:
        return [node.process.switchboard for node in self.alive_nodes()]

    def _check_rest(self) -> None:
        super()._check_rest()
        self._check_leaving()

    def _check_leaving(self) -> None:
        """Check that the server is told of each player that leaves, in order or without a word."""
        [server] = [life for life in self.alive(Role.SERVER) if life.core.acting]
        players = self.alive(Role.PLAYER)
        for number, player in enumerate(players, 1):
            call = server.trigger(player.place, ["never", 0.0], 30.0)
            self.world.run(0.1)
            if self.world.chance(0.5):
                player.close()
            else:
                player.kill()
            self.world.run(1.0)
            assert len(server.core.players) == len(players) - number, f"nobody said that {player.name} left"
            assert call.done, f"{call.name} did not end when its player left"
        assert not [key for key in self.store.records if key.startswith("p.")]

    def check_broker_at_rest(self) -> None:
        for node in self.alive_nodes():
            node.process.check_at_rest(None)
        players = sum(len(board.roster.players) for board in self.boards())
        assert sum(len(board.roster.sessions()) for board in self.boards()) == len(self.places)
        records = [key for key in self.store.records if key.startswith("p.")]
        assert len(records) == players, (records, players)
        assert sum(board.roster.server is not None for board in self.boards()) == 1
        for board in self.boards():
            elsewhere = board.realm.presence.elsewhere
            if board.roster.server is not None:
                assert len(elsewhere) + len(board.roster.players) == players
            assert len(board.roster.nodes) == len(self.names) - 1


class OperatorSimulation(RealmSimulation):
    """The run of one seed in which an operator calls players, and players go from node to node."""

    operations = 250
    fault_counts = 3, 8, 20

    def __init__(self, seed: int, tracing: bool = False) -> None:
        super().__init__(seed, tracing)
        self.names = [f"node{i}" for i in range(self.world.random.choice([2, 3, 3]))]
        self.weather_of_engine.delay_s = self.world.random.choice([0.005, 0.05, 0.2])
        self.engine.delay_s = self.weather_of_engine.delay_s
        self.delay_between_nodes_s = 2 * self.engine.delay_s
        operator: Place = (Role.OPERATOR, None)
        if operator not in self.places:
            self.places.append(operator)

    def _operation(self) -> None:
        operators = [life for life in self.alive(Role.OPERATOR) if life.core.connected and not life.stopped]
        if operators and not self._healing and self.world.chance(0.7):
            for _ in range(self.world.random.choice([1, 1, 5])):
                self._call(operators[0])
            if self.world.chance(0.05):
                operators[0].kick(self._one(self.player_ids))
        else:
            super()._operation()

    def faults(self) -> list[Callable[[], None]]:
        return [
            *(self._reset_player, self._reset_player, self._reset_player, self._reset),
            *(self._kill, self._close, self._stop, self._cut, self._join_twice),
            *(self._kill_broker, self._stop_broker, self._cut_node, self._block, self._engine_down),
            *(self._drain, self._drain),
        ]

    def _reset_player(self) -> None:
        """Cut the connection of a player amid calls to it. It goes on at another node, most of the time."""
        player, operator = self._one(self.alive(Role.PLAYER)), self._one(self.alive(Role.OPERATOR))
        if player is None or operator is None or operator.stopped:
            return
        random = self.world.random
        for _ in range(random.choice([1, 1, 3])):
            operator.trigger(player.place, ["reply", random.choice([0.0, 0.01, 2.0])], None)
        self.world.after(random.choice([0.0, 0.001, 0.02, 0.1]), self._reset_link, player)

    def _reset_link(self, player: EndpointProcess) -> None:
        if player.link is not None and not self._healing:
            player.link.reset()
