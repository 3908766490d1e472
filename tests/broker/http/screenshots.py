"""Make the pictures of the dashboard for docs: with a broker, a shop, players that buy, and a browser.

python tests/broker/http/screenshots.py docs/images
"""

from __future__ import annotations

import logging
import sys
import tempfile
import threading
from contextlib import ExitStack, suppress
from math import sin
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support.browser import NARROW, WIDE, Browser, browser
from support.harness import BrokerProcess

from ringback import Player, Refused, Server

PLAYERS = (7, 8, 12, "anna", "bot-1", "kiosk-berlin", 31, 44)
POINTS = 26


def shop(backend: str) -> Server:
    server = Server(backend)
    server.register_server_callback("shop:items", lambda source, payload: {"apple": 3, "bread": 5})
    server.register_server_callback("shop:price", lambda source, payload: {"apple": 2, "rope": 12}[payload])
    server.register_server_callback("shop:buy", lambda source, payload: True)
    server.register_server_callback("match:join", lambda source, payload: {"match": 4, "seat": 2})
    return server.start()


def trade(server: Server, players: list[Player], stop: threading.Event) -> None:
    """Make calls both ways, as a game would, until `stop` is set."""
    rng = Random(7)
    keys = ("shop:items", "shop:price", "shop:buy", "match:join")
    number = 0
    while not stop.wait(rng.uniform(0.02, 0.04) + 0.02 * sin(number / 200)):
        number += 1
        for player in rng.sample(players, 3):
            wanted = rng.choice(("apple", "rope", "gold")) if number % 20 == 0 else "apple"
            player.trigger_server_callback(rng.choice(keys), wanted, forget, on_error=forget)
        called = 99 if number % 40 == 0 else rng.choice(PLAYERS)
        server.trigger_client_callback("local:coords", called, None, forget, on_error=forget)


def forget(*_: object) -> None:
    """Ignore the outcome of a call: the dashboard shows it."""


def fill(page: Browser) -> None:
    """Trigger a callback with the form."""
    page.run("document.querySelector('#callbacks tbody tr:nth-child(4) button').click()")
    page.find("#payload").send_keys('{"category": "food"}')
    page.find("#send").click()
    page.until(lambda: "Result after" in page.text("#outcome-line"), "the result is there")


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    logging.disable()  # some handlers raise here on purpose
    stop = threading.Event()
    with ExitStack() as stack:
        options = ("--http", "127.0.0.1:0", "--dashboard")
        broker = stack.enter_context(BrokerProcess(options=options))
        url = broker.process.lines[-1].rpartition("http=")[2].split()[0]
        server = shop(broker.backend)
        stack.callback(server.close)
        players = [Player(broker.players, player_id).start() for player_id in PLAYERS]
        for player in players:
            stack.callback(player.close)
            player.register_client_callback("local:coords", lambda payload: {"x": 7.0, "y": 2.0})
        with suppress(Refused):
            Player(broker.players, 7).start()
        Player(broker.players, "guest").start().close()
        thread = threading.Thread(target=trade, args=(server, players, stop))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        page = stack.enter_context(browser(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        page.look(WIDE)
        page.driver.get(url)
        page.until(
            lambda: page.run("return document.querySelector('#pace-line polyline').points.length") >= POINTS,
            "the line of calls is long enough",
        )
        fill(page)
        page.driver.save_screenshot(str(folder / "dashboard-light.png"))
        page.look(NARROW, dark=True)
        page.run("scrollTo(0, 0)")
        page.driver.save_screenshot(str(folder / "dashboard-dark-narrow.png"))


if __name__ == "__main__":
    main()
