"""The programs in `examples` do what they say, and players cannot cheat the shop."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faces import HereBroker
from support.harness import PATIENCE_S, Process

from ringback import CallbackError
from ringback.aio import Operator, Player

EXAMPLES = Path(__file__).parents[1] / "examples"
SERVERS = ("shop_server.py", "shop_server_aio.py")
BUYS = 50


@pytest.fixture
def here() -> Iterator[HereBroker]:
    with HereBroker() as broker:
        yield broker


@pytest.fixture(params=SERVERS)
def shop(request: pytest.FixtureRequest, here: HereBroker) -> Iterator[HereBroker]:
    """Start the shop, on each face, and return its broker."""
    with Process(str(EXAMPLES / request.param), here.backend, stdin=subprocess.PIPE) as process:
        process.wait_for("the shop is open")
        yield here


async def buy(player: Player, item: Any, category: Any = "tools") -> Any:
    """Return what the shop replied, or the code of its error."""
    try:
        return await player.trigger_server_callback("shop:buy", {"category": category, "item": item})
    except CallbackError as error:
        return error.code_name


class Counter:
    """The confirmations of a player. All wait until every other purchase has ended, and then agree."""

    def __init__(self, player: Player) -> None:
        self._waiting: list[Any] = []
        self.asked = self.ended = 0
        player.register_client_callback("shop:confirm", self._confirm)

    def _confirm(self, payload: Any, cb: Any) -> None:
        self._waiting.append(cb)
        self.asked += 1
        self.agree()

    def agree(self) -> None:
        if len(self._waiting) + self.ended == BUYS:
            waiting, self._waiting = self._waiting, []
            for cb in waiting:
                cb(True)


@pytest.mark.parametrize(("category", "item", "price"), [("tools", "rope", 12), ("food", "apple", 3)])
def test_parallel_purchases_sell_only_what_is_paid_for(
    shop: HereBroker, category: str, item: str, price: int
) -> None:
    async def run() -> None:
        async with Player(shop.players, 7) as player:
            counter = Counter(player)

            async def one() -> Any:
                outcome = await buy(player, item, category)
                counter.ended += 1
                counter.agree()
                return outcome

            outcomes = await asyncio.wait_for(asyncio.gather(*(one() for _ in range(BUYS))), PATIENCE_S)
            sold = [outcome for outcome in outcomes if isinstance(outcome, dict)]
            assert len(sold) == counter.asked == 20 // price
            assert all(outcome["bought"] == item for outcome in sold)
            assert outcomes.count("TOO_POOR") == BUYS - len(sold)
            assert min(outcome["purse"] for outcome in sold) == 20 % price

    asyncio.run(run())


@pytest.mark.parametrize("answer", [False, None, "no", 1, [True]])
def test_money_comes_back_unless_the_player_agrees(shop: HereBroker, answer: Any) -> None:
    async def run() -> None:
        async with Player(shop.players, 7) as player:
            handle = player.register_client_callback("shop:confirm", lambda payload: answer)
            assert await buy(player, "rope") == {"bought": None, "purse": 20}
            handle.unregister()
            assert await buy(player, "rope") == "HANDLER_ERROR"  # it cannot be asked: nothing is sold
            player.register_client_callback("shop:confirm", lambda payload: True)
            assert await buy(player, "rope") == {"bought": "rope", "purse": 8}

    asyncio.run(run())


def test_money_comes_back_if_the_player_leaves_before_it_agrees(shop: HereBroker) -> None:
    async def run() -> None:
        async with Operator(shop.backend) as operator:
            async with Player(shop.players, 7) as player:
                asked = asyncio.Event()
                player.register_client_callback("shop:confirm", lambda payload, cb: asked.set())
                call = player.trigger_server_callback("shop:buy", {"category": "tools", "item": "rope"})
                await asyncio.wait_for(asked.wait(), PATIENCE_S)
            assert call.error is not None
            async with Player(shop.players, 7) as player:
                player.register_client_callback("shop:confirm", lambda payload: True)
                while (outcome := await buy(player, "rope")) == "TOO_POOR":  # until it is known that 7 left
                    await operator.ping()
                assert outcome == {"bought": "rope", "purse": 8}

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))


ODD = [None, True, 1, -3, 2**64 - 1, float("nan"), "", "moon", b"rope", [], ["rope"], {}, {"rope": 12}]


def test_odd_payloads_are_refused_in_words(shop: HereBroker) -> None:
    async def run() -> None:
        async with Player(shop.players, 7) as player:
            player.register_client_callback("shop:confirm", lambda payload: True)
            for value in ODD:
                assert await buy(player, value) == "NOT_SOLD", value
                assert await buy(player, "rope", value) == "NOT_SOLD", value
                for payload in (value, {"category": value}):
                    call = player.trigger_server_callback("shop:items", payload)
                    with pytest.raises(CallbackError, match="NOT_SOLD: the payload needs a `category`"):
                        await call
            # A price or an amount in a payload means nothing.
            payload = {"category": "tools", "item": "rope", "price": -50, "amount": -1}
            assert await player.trigger_server_callback("shop:buy", payload) == {"bought": "rope", "purse": 8}

    asyncio.run(run())


def test_a_hostile_player_cannot_command_the_terminal_of_the_server(here: HereBroker) -> None:
    bad = "\x1b]0;pwned\x07\u202e\n"

    async def run(process: Process) -> None:
        async with Player(here.players, bad) as player:
            player.register_client_callback("local:coords", lambda payload: bad)
            await asyncio.to_thread(process.wait_for, r"player \\x1b\]0;pwned\\x07\\u202e\\n joined$")

    with Process(str(EXAMPLES / SERVERS[0]), here.backend, stdin=subprocess.PIPE) as process:
        process.wait_for("the shop is open")
        asyncio.run(run(process))
        process.wait_for("left$")
        assert all(line.isprintable() for line in process.lines)


def test_a_mistake_on_standard_input_ends_nothing(here: HereBroker) -> None:
    with Process(str(EXAMPLES / SERVERS[0]), here.backend, stdin=subprocess.PIPE) as process:
        process.wait_for("the shop is open")
        assert process.popen.stdin is not None
        for mistake in (
            "ask 0 k",
            f"ask {2**63} k",
            f"ask 7 {'k' * 300}",
            f"ask-all {'k' * 300}",
            "ask " + "9" * 5000 + " k",
        ):
            process.popen.stdin.write(mistake + "\n")
            process.popen.stdin.flush()
            process.wait_for("^cannot do that: ")
        process.popen.stdin.write("what\n")
        process.popen.stdin.flush()
        process.wait_for("^does not understand")


@pytest.mark.parametrize(
    "name",
    [
        *("demo.py", *SERVERS, "shop_player.py", "price_list.py", "bank.py", "world_loading.py"),
        *("deployment.py", "auction.py"),
    ],
)
def test_an_example_prints_its_usage(name: str) -> None:
    with Process(str(EXAMPLES / name), "--help") as process:
        assert process.wait() == 1
        [line] = process.output()
        assert line.startswith(f"usage: python examples/{name}")


@pytest.mark.parametrize("name", [*SERVERS, "shop_player.py"])
def test_ctrl_c_ends_an_example(here: HereBroker, name: str) -> None:
    address = here.players if name == "shop_player.py" else here.backend
    with Process(str(EXAMPLES / name), address, stdin=subprocess.PIPE) as process:
        process.wait_for("the shop is open|plays as")
        process.signal(signal.SIGINT)
        assert process.wait() == 0 and len(process.output()) == 1, process.output()


def test_more_calls_than_there_is_room_for(here: HereBroker) -> None:
    with Process(str(EXAMPLES / "price_list.py"), here.backend, here.players) as process:
        assert process.wait(4 * PATIENCE_S) == 0, process.output()
        assert process.output() == [
            "without waiting, 9936 of 10000 calls found no room",
            "with wait_for_room, all prices together are 88890",
            "with ready_to_call, all prices together are 88890",
        ]


def test_the_tests_of_the_guild_pass_and_find_a_fault(tmp_path: Path) -> None:
    """Run them as in the project of a user, and then against a guild that takes in everybody."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    (tmp_path / "test_guild.py").write_text((EXAMPLES / "test_guild.py").read_text())
    guild = (EXAMPLES / "guild.py").read_text()
    wrong = guild.replace("is not True:", "is None:")
    assert wrong != guild
    for code, program, end in ((0, guild, "7 passed"), (1, wrong, "3 failed, 4 passed")):
        (tmp_path / "guild.py").write_text(program)
        arguments = ["-q", "-p", "no:asyncio", "-p", "no:cacheprovider", "--rootdir", str(tmp_path)]
        with Process("-B", "-m", "pytest", *arguments, str(tmp_path)) as process:
            assert process.wait() == code, process.output()
            assert process.output()[-1].startswith(end)


def test_progress_of_a_world(here: HereBroker) -> None:
    with Process(str(EXAMPLES / "world_loading.py"), here.backend, here.players) as process:
        assert process.wait() == 0, process.output()
        chunks = [f"{number} of 5 chunks" for number in range(1, 6)]
        assert process.output() == [*chunks, "Midgard is ready", *chunks[:2], "Asgard is not loaded"]


def test_an_auction_of_futures(here: HereBroker) -> None:
    with Process(str(EXAMPLES / "auction.py"), here.backend, here.players) as process:
        assert process.wait() == 0, process.output()
        said = process.output()
        assert said[:4] == [
            "it is not over, and the call goes on: True",
            *2 * ["another call ends with 45"],
            "the first call ends with 45",
        ]
        assert sorted(said[4:]) == [
            f"{name} hears that the rope goes to ben" for name in ("anna", "ben", "chris")
        ]


def test_a_payment_happens_once_although_the_link_is_cut(here: HereBroker) -> None:
    with Process(str(EXAMPLES / "bank.py"), here.backend, here.players) as process:
        assert process.wait() == 0, process.output()
        printed = [line for line in process.output() if "the link to" not in line]
        paid = [f"paid 10, {left} left" for left in (90, 80, 70, 60, 50)]
        assert printed == [*paid, "the purse has 50, after 5 payments of 10"]


def test_a_server_is_replaced_amid_calls(here: HereBroker) -> None:
    async def call_all_the_time(player: Player, versions: list[int]) -> None:
        while versions[-1:] != [2]:
            calls = [player.trigger_server_callback("shop:version", 0.05 * number) for number in range(5)]
            versions += await asyncio.gather(*calls)

    async def play(first: Process) -> None:
        async with Player(here.players, 7) as player:
            versions: list[int] = []
            calling = asyncio.create_task(call_all_the_time(player, versions))
            with Process(str(EXAMPLES / "deployment.py"), here.backend, "2") as second:
                await asyncio.to_thread(second.wait_for, "version 2 is ready")
                first.signal(signal.SIGTERM)
                await asyncio.wait_for(calling, PATIENCE_S)
                assert set(versions) == {1, 2}
                assert await asyncio.to_thread(first.wait) == 0
                second.signal(signal.SIGINT)
                assert await asyncio.to_thread(second.wait) == 0
                assert "no other server stands by: after version 2 there is none" in second.output()

    with Process(str(EXAMPLES / "deployment.py"), here.backend, "1") as first:
        first.wait_for("version 1 is ready")
        asyncio.run(play(first))
        assert first.output()[-1] == "version 1 acts no more"


def test_the_demo_succeeds() -> None:
    with Process(str(EXAMPLES / "demo.py")) as process:
        assert process.wait() == 0, process.output()
        assert process.output()[-1] == "Everything happened as expected."
        alarming = re.compile(r"the link to|next attempt|no link|still connected|WARNING|Traceback")
        assert [line for line in process.output() if alarming.search(line)] == []


def test_the_demo_fails_if_something_unexpected_happens(tmp_path: Path) -> None:
    for name in ("demo.py", "shop_player.py", "shop_server.py"):
        (tmp_path / name).write_text((EXAMPLES / name).read_text())
    rules = (EXAMPLES / "shop.py").read_text()
    assert '"bread": 5' in rules
    (tmp_path / "shop.py").write_text(rules.replace('"bread": 5', '"bread": 6'))
    demo = (tmp_path / "demo.py").read_text()
    (tmp_path / "demo.py").write_text(demo.replace("PATIENCE_S = 30.0", "PATIENCE_S = 2.0"))
    with Process(str(tmp_path / "demo.py")) as process:
        assert process.wait() == 1
        assert any("UNEXPECTED" in line for line in process.output())


def test_the_market_sells_by_contract(here: HereBroker) -> None:
    with Process(str(EXAMPLES / "market_server.py"), here.backend) as server:
        server.wait_for("the market is open")

        def shop_for(good: str, count: int) -> tuple[int, str]:
            with Process(str(EXAMPLES / "market_player.py"), here.players, "7", good, str(count)) as player:
                code = player.wait()
                return code, "\n".join(player.output())

        code, said = shop_for("rope", 3)
        assert code == 0 and said.startswith("3 rope cost 36, sold at ")
        assert shop_for("lamp", 4) == (1, "NOT_AGREED: the player does not agree")
        assert "count must be from 1 to 100, not 101" in shop_for("rope", 101)[1]

        async def cheat() -> Any:
            async with Player(here.players, 8) as player:
                with pytest.raises(CallbackError) as caught:
                    await player.trigger_server_callback("market:buy", {"good": "rope", "count": -5})
                return caught.value

        error = asyncio.run(cheat())
        assert (error.code_name, error.executed) == ("INVALID_PAYLOAD", "no")
        assert "count must be from 1 to 100, not -5" in error.message
