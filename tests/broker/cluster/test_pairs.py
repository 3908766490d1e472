"""Pairs of nodes: what was sent in an earlier epoch never counts."""

from __future__ import annotations

from support.realms import FakeFrames

from ringback_broker.cluster.pairs import BEAT_S, GREET_S, HEAD, SILENT_S, Pair, Pairs
from ringback_broker.peers.connection import Sent


class End:
    """One node's end of its pairs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.boot = b"boot " + name.encode()
        self.frames = FakeFrames()
        self.log: list[str] = []
        self.taken: list[tuple[bytes, bytes]] = []
        self.of = Pairs(self.frames, self._opened, self._closed, self._take)

    def _opened(self, pair: Pair, now: float) -> None:
        self.log.append(f"opened {pair.name}")

    def _closed(self, pair: Pair, why: str, now: float) -> None:
        self.log.append(why)

    def _take(self, pair: Pair, id_part: bytes, frame: bytes, now: float) -> None:
        self.taken.append((id_part, frame))


class Two:
    def __init__(self) -> None:
        self.now = 1000.0
        self.a, self.b = End("a"), End("b")
        self.a.of.add("b", self.b.boot, self.now)
        self.b.of.add("a", self.a.boot, self.now)

    def deliver(self) -> None:
        while self.a.frames.sent or self.b.frames.sent:
            for one, other in ((self.a, self.b), (self.b, self.a)):
                while one.frames.sent:
                    name, boot, parts = one.frames.sent.popleft()
                    if (name, boot) == (other.name, other.boot):
                        other.of.from_node(one.name, one.boot, parts, self.now)

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.a.of.tick(self.now)
        self.b.of.tick(self.now)


def opened() -> Two:
    two = Two()
    two.deliver()
    assert two.a.log == ["opened b"] and two.b.log == ["opened a"]
    return two


def test_messages_pass_in_order_once_both_know_both_epochs() -> None:
    two = Two()
    assert two.a.of.send("b", b"", b"early") is Sent.GONE and two.a.of.send("c", b"", b"x") is Sent.GONE
    two.deliver()
    assert two.a.of.is_open("b") and not two.a.of.is_open("c")
    for number in range(3):
        assert two.a.of.send("b", b"", b"%d" % number) is Sent.YES
    two.deliver()
    assert two.b.taken == [(b"", b"0"), (b"", b"1"), (b"", b"2")]


def test_a_greeting_that_was_lost_is_said_again() -> None:
    two = Two()
    two.a.frames.sent.clear()
    two.b.frames.sent.clear()
    two.tick(GREET_S / 2)
    assert not two.a.frames.sent
    two.tick(GREET_S / 2)
    two.deliver()
    assert two.a.of.is_open("b") and two.b.of.is_open("a")


def test_one_end_may_learn_of_the_other_later() -> None:
    two = Two()
    late = End("a")
    late.boot = two.a.boot
    two.a = late
    two.deliver()
    assert not two.b.of.is_open("a")
    late.of.add("b", two.b.boot, two.now)
    two.deliver()
    assert late.of.is_open("b") and two.b.of.is_open("a")


def test_a_message_that_was_lost_ends_the_epoch() -> None:
    two = opened()
    two.a.of.send("b", b"", b"lost")
    two.a.frames.sent.clear()
    two.a.of.send("b", b"", b"next")
    two.deliver()
    assert two.b.taken == [] and two.b.log[1:] == ["1 messages were lost", "opened a"]
    assert two.a.log[1:] == ["it has begun anew", "opened b"]
    two.a.of.send("b", b"", b"again")
    two.deliver()
    assert two.b.taken == [(b"", b"again")]


def test_the_last_message_is_missed_too() -> None:
    two = opened()
    two.a.of.send("b", b"", b"lost")
    two.a.frames.sent.clear()
    two.tick(BEAT_S)
    two.deliver()
    assert "1 messages were lost" in two.b.log


def test_what_was_sent_in_an_earlier_epoch_does_not_count() -> None:
    two = opened()
    two.a.of.send("b", b"", b"old")
    [old] = two.a.frames.sent
    two.a.frames.sent.clear()
    two.a.of.renew("b", "a test", two.now)
    two.a.of.renew("nobody", "a test", two.now)
    two.deliver()
    two.b.of.from_node("a", two.a.boot, old[2], two.now)
    assert two.b.taken == [] and two.b.of.is_open("a")
    two.a.of.renew_all("a test", two.now)
    late = (HEAD.pack(3, 1, 1), b"", b"late")  # to an epoch of the receiver that is over
    two.deliver()
    two.b.of.from_node("a", two.a.boot, late, two.now)
    assert two.b.taken == []
    two.b.of.renew_all("a test", two.now)
    two.b.of.from_node("a", two.a.boot, old[2], two.now)
    two.deliver()
    assert two.b.taken == [] and two.a.of.is_open("b") and two.b.of.is_open("a")


def test_a_message_may_come_before_the_greeting() -> None:
    two = Two()
    two.b.of.from_node("a", two.a.boot, (HEAD.pack(1, 1, 1), b"", b"x"), two.now)
    assert two.b.taken == [(b"", b"x")] and two.b.log == ["opened a"]


def test_strange_messages_are_dropped() -> None:
    two = opened()
    head = HEAD.pack(1, 1, 1)
    for boot, parts in ((b"other", (head, b"", b"x")), (two.a.boot, ()), (two.a.boot, (b"short", b"", b"x"))):
        two.b.of.from_node("a", boot, parts, two.now)
    two.b.of.from_node("nobody", b"boot", (head, b"", b"x"), two.now)
    two.b.of.from_node("a", two.a.boot, (HEAD.pack(1, 99, 1), b"", b"x"), two.now)
    assert two.b.taken == [] and two.b.log == ["opened a"]


def test_a_silent_pair_begins_anew() -> None:
    two = opened()
    for _ in range(int(SILENT_S / BEAT_S) + 1):
        two.tick(BEAT_S)
        two.a.frames.sent.clear()
        two.b.frames.sent.clear()
    assert f"nothing came for {SILENT_S:g} s" in two.a.log
    two.tick(GREET_S)
    two.deliver()
    assert two.a.of.is_open("b") and two.b.of.is_open("a")


def test_a_pair_begins_anew_when_nobody_is_there() -> None:
    two = opened()
    assert not two.a.frames.asked
    two.tick(BEAT_S)
    [(name, boot, epoch)] = two.a.frames.asked
    assert (name, boot, epoch) == ("b", two.b.boot, 1)
    two.a.of.nobody("c", boot, epoch, two.now)
    two.a.of.nobody("b", b"another boot", epoch, two.now)
    two.a.of.nobody("b", boot, epoch + 1, two.now)
    assert two.a.of.is_open("b")
    two.a.of.nobody("b", boot, epoch, two.now)
    two.a.of.nobody("b", boot, epoch + 1, two.now)  # it is open no more
    assert two.a.log == ["opened b", "nobody is there"] and not two.a.of.is_open("b")
    two.deliver()  # node b was without its connection for a moment
    assert two.a.of.is_open("b") and two.b.of.is_open("a")
    two.a.of.nobody("b", boot, epoch, two.now)  # of an earlier epoch
    assert two.a.of.is_open("b")


def test_a_beat_that_finds_no_room_takes_no_number() -> None:
    two = opened()
    two.a.frames.outcome = Sent.FULL
    two.tick(BEAT_S)
    two.a.frames.outcome = Sent.YES
    two.a.of.send("b", b"", b"x")
    two.deliver()
    assert two.b.taken == [(b"", b"x")] and two.b.log == ["opened a"]


def test_a_send_that_finds_no_room_takes_no_number() -> None:
    two = opened()
    two.a.frames.outcome = Sent.FULL
    assert two.a.of.send("b", b"", b"x") is Sent.FULL
    two.a.frames.outcome = Sent.YES
    two.a.of.send("b", b"", b"y")
    two.deliver()
    assert two.b.taken == [(b"", b"y")]


def test_a_node_that_is_gone_has_no_pair() -> None:
    two = opened()
    two.a.of.remove("b", "it has left", two.now)
    two.a.of.remove("b", "it has left", two.now)
    assert two.a.log[1:] == ["it has left"]
    two.b.of.clear("lost", two.now)
    assert two.b.log[1:] == ["lost"] and not two.b.of.is_open("a")
    waiting = Two()
    waiting.a.of.clear("lost", waiting.now)
    assert waiting.a.log == []


def test_a_large_frame_takes_several_messages() -> None:
    two = opened()
    two.a.frames.max_bytes = 612
    frame = bytes(range(250)) * 2
    for size in (100, 101, 200, 500):
        two.a.of.send("b", b"id", frame[:size])
    assert len(two.a.frames.sent) == 1 + 2 + 2 + 5
    two.deliver()
    assert two.b.taken == [(b"id", frame[:size]) for size in (100, 101, 200, 500)]
    two.a.frames.max_bytes = 0  # some bytes are always taken
    two.a.of.send("b", b"id", frame)
    two.deliver()
    assert two.b.taken[-1] == (b"id", frame)


def test_a_frame_that_has_only_begun_does_not_count() -> None:
    two = opened()
    two.a.frames.max_bytes = 612
    two.a.frames.outcome = Sent.FULL
    assert two.a.of.send("b", b"", b"x" * 300) is Sent.FULL and two.a.of.is_open("b")
    two.a.frames.outcome = Sent.YES
    send = two.a.frames.send

    def full_after(most: int) -> None:
        left = [most]

        def limited(node: str, boot: bytes, parts: tuple[bytes, ...]) -> Sent:
            left[0] -= 1
            return send(node, boot, parts) if left[0] >= 0 or len(parts) == 1 else Sent.FULL

        two.a.frames.send = limited  # type: ignore[method-assign]

    for most in (1, 2):
        full_after(most)
        assert two.a.of.send("b", b"", b"x" * 300) is Sent.GONE
        two.deliver()
        assert two.b.taken == [] and two.b.of.is_open("a") and two.a.of.is_open("b")


def test_pieces_without_an_end_begin_a_new_epoch() -> None:
    two = opened()
    for _ in range(3):
        two.a.of._send(two.a.of._pairs["b"], b"x" * 2**20)
    two.a.of._send(two.a.of._pairs["b"], b"x", b"y", b"z")
    two.deliver()
    assert two.b.taken == [] and "it sent what no node sends" in two.b.log
