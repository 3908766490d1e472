"""Make the pictures of the dashboard for docs: with a broker, a shop, players that buy, and a browser.

python tests/broker/http/screenshots.py docs/images [PLAYERS]

With 5,000 players, or as many as PLAYERS says. Most of them are idle. It takes four minutes, so that charts
have something to show.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from math import sin
from pathlib import Path
from random import Random
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))

from crowd import start_crowd
from processes import allow_many_connections
from support.browser import NARROW, WIDE, Browser, browser
from support.harness import BrokerProcess

from ringback import Player, Refused, Server

PLAYERS = (7, 8, 12, "anna", "bot-1", "kiosk-berlin", 31, 44)
ALL_PLAYERS = 5000
POINTS = 40
"""How many points the charts have: one every 5 s."""


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


def wait_for_history(url: str) -> None:
    """Wait until the charts have enough points."""
    while True:
        with urlopen(f"{url}/api/history", timeout=30) as response:
            if len(json.load(response)["age_s"]) >= POINTS:
                return
        time.sleep(1)


def take(
    page: Browser, url: str, view: str, path: Path, size: tuple[int, int], *, dark: bool = False
) -> None:
    """Take the picture of a view."""
    page.look(size, dark=dark)
    page.driver.get("about:blank")
    page.driver.get(f"{url}/#/{view}")
    page.until(lambda: page.text("#link-text") == "live", "the page is live")
    rows = "return document.querySelectorAll('[data-view]:not([hidden]) tbody tr').length"
    page.until(lambda: page.run(rows) > 0, "the rows are there")
    charts = "document.querySelectorAll('[data-view]:not([hidden]) .canvas')"
    drawn = f"return [...{charts}].every(one => one.firstChild)"
    page.until(lambda: page.run(drawn), "the charts are drawn")
    page.driver.save_screenshot(str(path))


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    count = int(sys.argv[2]) if len(sys.argv) > 2 else ALL_PLAYERS
    allow_many_connections()
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
        start_crowd(stack, "ringback.aio", broker.players, range(len(PLAYERS), count))
        with suppress(Refused):
            Player(broker.players, 7).start()
        Player(broker.players, "guest").start().close()
        thread = threading.Thread(target=trade, args=(server, players, stop))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        page = stack.enter_context(browser(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
        wait_for_history(url)
        take(page, url, "", folder / "dashboard-light.png", WIDE)
        take(page, url, "players?sort=calls&order=descending", folder / "dashboard-players.png", WIDE)
        narrow = (NARROW[0], 1150)
        take(
            page, url, "callback/server/shop%3Aprice", folder / "dashboard-dark-narrow.png", narrow, dark=True
        )


if __name__ == "__main__":
    main()
