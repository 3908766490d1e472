"""The dashboard's page in a real browser: what it shows, what the form does, and accessibility."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver.common.keys import Keys
from support.browser import CHROMIUM, DRIVER, NARROW, WIDE, Browser, browser
from support.dashboards import OPTIONS, url_of
from support.harness import BrokerProcess, Process, eventually
from support.keyring import KeyRing
from support.realm_processes import RealmOfProcesses

from ringback import CallbackError, Player, Server, ServerCallback
from ringback.credentials import write_key_pair

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium and chromedriver are not installed: `make browser` as root installs them",
)

ACTOR = Path(__file__).resolve().parents[2] / "support" / "actor.py"
TOKEN = "correct-horse-battery"
UNKNOWN = "\u2013"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture
def page(chromium: Browser) -> Iterator[Browser]:
    """Yield the browser. At the end, check that it requested nothing from other hosts."""
    chromium.look(WIDE)
    chromium.complaints(), chromium.requests()
    yield chromium
    asked = {urlsplit(url).hostname for url in chromium.requests() if not url.startswith(("data:", "chrome"))}
    chromium.driver.get("about:blank")
    assert asked <= {"127.0.0.1"}


def open_page(page: Browser, broker: BrokerProcess, view: str = "") -> None:
    """Open a view of the page: what follows `#/` in its address."""
    page.driver.get("about:blank")
    page.driver.get(f"{url_of(broker)}/#/{view}")
    page.until(lambda: page.text("#link-text") == "live", "the page is live")


def go(page: Browser, view: str) -> None:
    """Go to a view, as a link does."""
    name = view.partition("?")[0].partition("/")[0] or "overview"
    page.run("location.hash = arguments[0]", f"#/{view}")
    page.until(lambda: view_of(page) == name, "the view is shown")


def ids(page: Browser) -> list[str]:
    return [row[0] for row in page.rows("players")]


def view_of(page: Browser) -> str:
    """Return the name of the view that is shown."""
    names = page.run(
        "return [...document.querySelectorAll('[data-view]')].filter(one => !one.hidden)"
        ".map(one => one.dataset.view)"
    )
    (name,) = names
    return str(name)


def pace(page: Browser) -> float:
    return float(page.text("#pace").replace(",", "").replace(UNKNOWN, "0"))


def choose(page: Browser, side: str, key: str, whom: str, payload: str) -> None:
    page.find(f"[name=side][value={side}]").click()
    for name, text in (("key", key), ("whom", whom), ("payload", payload)):
        page.find(f"#{name}").clear()
        page.find(f"#{name}").send_keys(text)


def send(page: Browser) -> str:
    """Trigger the callback, and return the line that the page shows."""
    page.find("#send").click()
    page.until(lambda: page.find("#outcome").get_attribute("data-state") != "waiting", "the outcome")
    return page.text("#outcome-line")


def trigger_on_all(page: Browser) -> None:
    """Press the button, and say yes in the dialog. The page asks the broker before it shows the dialog."""
    page.find("#send-all").click()
    page.until(lambda: page.find("#confirm-yes").is_displayed(), "the dialog")
    page.find("#confirm-yes").click()


def test_players_come_and_go(page: Browser, broker: BrokerProcess) -> None:
    open_page(page, broker)
    assert page.text("#now-players") == "0" and page.text("#now-server") == "none"
    with Server(broker.backend), Player(broker.players, "7") as player:
        player.register_client_callback("local:coords", lambda payload: None)
        with Process(str(ACTOR), "blocking", "Player", broker.players, "7", stdin=subprocess.PIPE) as doomed:
            doomed.wait_for("ready")
            page.until(lambda: page.text("#now-players") == "2", "both players are counted")
            page.until(lambda: page.text("#now-server") == "connected", "the server is there")
            with Server(broker.backend, standby=True):
                page.until(lambda: page.text("#now-server").endswith(", 1 standing by"), "it stands by")
            go(page, "players")
            page.until(lambda: sorted(ids(page)) == ['"7"', "7"], "both players have rows")
            go(page, "callbacks")
            page.until(lambda: ["local:coords", "player", "1"] in keys(page), "its callback has a row")
            go(page, "players")
            doomed.kill()
            page.until(lambda: ids(page) == ['"7"'], "the killed player has no row")
    page.until(lambda: ids(page) == [] and page.text("#players-count") == "0", "no player has a row")
    go(page, "")
    page.until(lambda: page.rows("events") != [], "the events are there")
    events = [(row[2], row[4], row[7]) for row in page.rows("events")]
    assert ("left", "7", "its connection closed") in events and ("joined", '"7"', events[-2][2]) in events
    assert page.complaints() == []


def keys(page: Browser) -> list[list[str]]:
    return [[row[0], *row[2:4]] for row in page.rows("callbacks")]


def test_calls_raise_the_rate(page: Browser, broker: BrokerProcess) -> None:
    open_page(page, broker)
    page.until(lambda: page.text("#pace") != UNKNOWN, "the page shows a rate")
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)

        def calls() -> bool:
            for number in range(50):
                player.trigger_server_callback("echo", number).result()
            return pace(page) > 10 and rate(page, "echo") > 1

        page.until(calls, "calls raise the rate")
        page.until(lambda: charted(page, "overview") == 4, "the charts are drawn")
        spoken = "return document.querySelector('#overview-charts .canvas').ariaLabel"
        page.until(
            lambda: re.search(r"now [\d.]+, at most [1-9]", page.run(spoken)), "the chart has the rate"
        )
    page.until(lambda: pace(page) == 0, "the rate falls again")
    assert page.complaints() == []


def rate(page: Browser, key: str) -> float:
    """Return the calls per second of one of the busiest callbacks; 0 if it has no row."""
    return max((float(row[3]) for row in page.rows("busiest") if row[0] == key), default=0.0)


def charted(page: Browser, view: str) -> int:
    """Return how many charts have drawn a line: a canvas with pixels in the colour of one."""
    return int(
        page.run(
            "return [...document.querySelectorAll(arguments[0])].filter(canvas => canvas.getContext('2d')"
            ".getImageData(60, 10, canvas.width - 70, canvas.height - 40).data.some(value => value)).length",
            f"#{view}-charts canvas",
        )
    )


def test_the_form(page: Browser, broker: BrokerProcess) -> None:
    with Server(broker.backend) as server, Player(broker.players, 2**63 - 1) as player:
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        server.register_server_callback("many", lambda source, payload, cb: cb(b"\0", 2**60 + 1))
        player.register_client_callback("none", lambda payload, cb: cb())
        open_page(page, broker, "trigger")
        choose(page, "server", "echo", '"7"', '{"x": 9007199254740993}')
        assert re.fullmatch(r"Result after [\d.]+ ms", send(page))
        assert re.sub(r"\s", "", page.text("#outcome-value")) == '["7",{"x":9007199254740993}]'
        choose(page, "server", "many", "shop", "")
        assert send(page).startswith("2 results after")
        assert (
            page.text("#outcome-value").replace(" ", "")
            == '[\n{\n"base64":"AA=="\n},\n1152921504606846977\n]'
        )
        go(page, "players")
        page.until(lambda: ids(page) == [str(2**63 - 1)], "the player has a row")
        page.find("#players tbody a").click()
        page.until(lambda: page.text("#player-title") == f"Player {2**63 - 1}", "it has a view")
        page.until(lambda: "connected" in page.text("#player-figures"), "its figures are there")
        page.find("#player-trigger").click()
        assert page.find("#whom").get_attribute("value") == str(2**63 - 1)
        choose(page, "player", "none", str(2**63 - 1), "null")
        assert send(page).startswith("No results after")
    assert page.complaints() == []


def test_no_id_is_taken_for_another_one(page: Browser, broker: BrokerProcess) -> None:
    """A field of a form drops line breaks, and spaces at the ends."""
    shown = {" 7": '" 7"', "7": '"7"', "7\n": '"7\\n"', '"7"': '"\\"7\\""', "7 ": '"7 "', " ": '" "', 7: "7"}
    with ExitStack() as stack:
        for player_id in shown:
            player = stack.enter_context(Player(broker.players, player_id))
            player.register_client_callback("id", lambda payload, own=player_id: [own])
        open_page(page, broker)
        for player_id, text in shown.items():
            go(page, f"player/{quote(json.dumps(player_id), safe='')}")
            page.until(lambda text=text: page.text("#player-title") == f"Player {text}", "its view")
            page.find("#player-trigger").click()
            page.until(lambda: view_of(page) == "trigger", "the form")
            assert page.find("#whom").get_attribute("value") == text
            page.find("#key").clear()
            page.find("#key").send_keys("id")
            assert send(page).startswith("Result after")
            assert json.loads(page.text("#outcome-value")) == [player_id]
    assert page.complaints() == []


def test_the_form_shows_what_a_callback_takes(page: Browser, broker: BrokerProcess) -> None:
    with Server(broker.backend) as server:
        server.register(ServerCallback("shop:buy", list[int], None), lambda source, payload: None)
        server.register_server_callback("plain", lambda source, payload: None)
        open_page(page, broker, "trigger")

        def suggested() -> bool:
            page.find("[name=side]").click()
            page.find("#key").click()
            script = "return [...document.querySelectorAll('#keys option')].map(one => one.value)"
            return list(page.run(script)) == ["plain", "shop:buy"]

        page.until(suggested, "the keys are suggested")
        choose(page, "server", "shop:buy", "7", "[1]")
        page.until(lambda: page.find("#takes").is_displayed(), "the schema is there")
        page.find("#takes summary").click()
        assert '"type": "array"' in page.text("#schema")
        choose(page, "server", "plain", "7", "[1]")
        page.until(lambda: not page.find("#takes").is_displayed(), "the schema is gone")
        choose(page, "player", "shop:buy", "7", "[1]")
        assert not page.find("#takes").is_displayed()
        assert page.complaints() == []


def test_errors_are_shown(page: Browser, broker: BrokerProcess) -> None:
    def fails(source: Any, payload: Any) -> None:
        raise CallbackError("all <b>gone</b>", code="SOLD_OUT", data={"left": 0})

    def breaks(source: Any, payload: Any) -> None:
        raise RuntimeError

    open_page(page, broker, "trigger")
    with Server(broker.backend) as server:
        server.register_server_callback("fails", fails)
        server.register_server_callback("breaks", breaks)
        choose(page, "player", "local:coords", "99", "")
        assert send(page).startswith("UNKNOWN_PLAYER: ") and "did not run" in page.text("#outcome-line")
        go(page, "")
        page.until(
            lambda: ["bounced unknown player", "1"] in [row[:2] for row in page.rows("errors")],
            "the bounce has a row",
        )
        go(page, "trigger")
        choose(page, "server", "fails", "shop", "")
        assert send(page).startswith("SOLD_OUT: all <b>gone</b>, after")
        assert page.text("#outcome-value") == '{\n  "left": 0\n}'
        go(page, "")
        page.until(
            lambda: ["calls failed: APPLICATION", "1"] in [row[:2] for row in page.rows("errors")],
            "the failed call has a row",
        )
        go(page, "trigger")
        choose(page, "server", "breaks", "shop", "")
        assert send(page).startswith("HANDLER_ERROR") and "The handler ran." in page.text("#outcome-line")
    choose(page, "server", "fails", "shop", "")
    assert send(page).startswith("NO_SERVER")
    choose(page, "server", "k", "x" * 65, "")
    assert send(page).startswith("BAD_REQUEST: a player ID must have 1 to 64 UTF-8 bytes")
    choose(page, "server", "k", "x", "{")
    page.find("#send").click()
    assert page.run("return document.getElementById('payload').validationMessage").startswith(
        "This is not JSON"
    )


def test_texts_of_peers_are_shown_as_text(page: Browser, broker: BrokerProcess) -> None:
    odd = "<img src=x onerror=alert(1)>"

    def fails(payload: Any) -> None:
        raise CallbackError(odd, code=odd)

    with Player(broker.players, odd) as player:
        player.register_client_callback(odd, fails)
        open_page(page, broker, "callbacks")
        page.until(lambda: [odd, "player", "1"] in keys(page), "the page shows the key as text")
        page.find("#callbacks tbody a").click()
        page.until(lambda: page.text("#callback-title") == odd, "so does its view")
        page.find("[data-tap=callback] .watch").click()
        page.find("#whom").send_keys(odd)
        assert send(page).startswith(f"{odd}: {odd}, after")
        page.until(lambda: odd in page.text("[data-tap=callback] tbody"), "so does the tap")
        page.until(lambda: odd in page.text("#callback-failures tbody"), "so do the failures")
        trigger_on_all(page)
        page.until(lambda: [odd, f"{odd}: {odd}"] in page.rows("outcomes"), "so do the outcomes")
        go(page, "players")
        page.until(lambda: ids(page) == [odd], "so does the list")
        page.find("#players tbody a").click()
        page.until(lambda: page.text("#player-title") == f"Player {odd}", "so does the view of a player")
        page.find("#kick").click()
        assert page.text("#confirm-title") == f"Kick player {odd}?"
        page.find("#confirm-input").send_keys(odd)
        page.find("#confirm-yes").click()
        page.until(lambda: page.text("#player-none") != "", "it is gone")
        page.until(
            lambda: any(odd in row[-1] for row in page.rows("player-events")), "the reason is in its events"
        )
        go(page, "")
        page.until(lambda: any(odd in row[4] for row in page.rows("events")), "and in all events")
    assert page.run("return document.querySelectorAll('main img, dialog img').length") == 0
    assert page.complaints() == []


def test_a_blocked_broker_and_one_that_is_gone(page: Browser, broker: BrokerProcess) -> None:
    open_page(page, broker)
    broker.process.signal(signal.SIGSTOP)
    page.until(
        lambda: "has not answered since" in page.text("#banner"),
        "the page says that the broker does not answer",
    )
    assert page.text("#link-text") == "no answer"
    broker.process.signal(signal.SIGCONT)
    page.until(
        lambda: page.text("#link-text") == "live" and not page.text("#banner"), "the page is live again"
    )
    broker.options = ("--http", url_of(broker).removeprefix("http://"), "--dashboard")
    broker.process.kill()
    page.until(lambda: "be reached" in page.text("#banner"), "the page says that the broker is gone")
    broker.start()
    page.until(
        lambda: page.text("#link-text") == "live" and not page.text("#banner"), "the page is live again"
    )


def test_the_page_asks_for_a_token(page: Browser, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    options = ("--http", "0.0.0.0:0", "--http-token-file", str(path), "--dashboard")
    with BrokerProcess(options=options) as broker:
        page.driver.get(url_of(broker))
        page.until(lambda: "asks for a token" in page.text("#login"), "the page asks for the token")
        page.find("#token").send_keys("wrong" + Keys.ENTER)
        page.until(
            lambda: "does not accept this" in page.text("#login-error"), "the page refuses the wrong token"
        )
        page.find("#token").send_keys(TOKEN + Keys.ENTER)
        page.until(
            lambda: page.text("#link-text") == "live" and not page.text("#login"),
            "the page accepts the right token",
        )
        page.driver.refresh()
        page.until(lambda: page.text("#link-text") == "live", "the page has kept the token")


# -- accessibility


def press(page: Browser, *pressed: str) -> None:
    for key in pressed:
        page.driver.switch_to.active_element.send_keys(key)


def focused(page: Browser) -> str:
    return str(page.run("const e = document.activeElement; return e.id || e.textContent || e.value"))


def tab_to(page: Browser, what: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(80):
        press(page, Keys.TAB)
        if focused(page) == what:
            return
    raise AssertionError(f"Tab does not reach {what!r}")


def test_the_page_works_with_the_keyboard_only(page: Browser, broker: BrokerProcess) -> None:
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        player.register_client_callback("coords", lambda payload: {"x": 1, "of": payload})
        open_page(page, broker)
        press(page, Keys.TAB)
        assert focused(page) == "Skip to the figures"
        tab_to(page, "Callbacks")
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid"
        press(page, Keys.ENTER)
        page.until(lambda: focused(page) == "callbacks-title", "a screen reader says which view it is")
        page.until(lambda: len(keys(page)) == 2, "all rows are there")
        tab_to(page, "coords")
        press(page, Keys.ENTER)
        page.until(lambda: focused(page) == "callback-title", "the view of the callback")
        tab_to(page, "whom")
        press(page, "7", Keys.TAB, "[1, 2]", Keys.TAB, Keys.TAB, Keys.ENTER)
        page.until(lambda: "Result after" in page.text("#outcome-line"), "the page shows the result")
        assert re.sub(r"\s", "", page.text("#outcome-value")) == '{"x":1,"of":[1,2]}'
        assert focused(page) == "send"  # the focus stays there for the next call
        press(page, Keys.TAB)
        assert focused(page) == "send-all"
        press(page, Keys.ENTER)
        page.until(lambda: focused(page) == "confirm-no", "the dialog asks, and Cancel has the focus")
        press(page, Keys.ESCAPE)
        assert not page.find("#confirm").is_displayed() and focused(page) == "send-all"
        press(page, Keys.ENTER)
        page.until(lambda: focused(page) == "confirm-no", "it asks again")
        press(page, Keys.TAB, Keys.ENTER)
        page.until(lambda: page.text("#outcome-line").startswith("1 OK, of 1 players"), "all were called")


def test_addresses_lead_to_views(page: Browser, broker: BrokerProcess) -> None:
    with Server(broker.backend) as server, Player(broker.players, "a/b?c#d%41") as player:
        server.register_server_callback("odd/key?x=1#%41", lambda source, payload: payload)
        player.register_client_callback("odd/key?x=1#%41", lambda payload: payload)
        open_page(page, broker)
        page.find(".views a[href='#/players']").click()
        page.until(lambda: ids(page) == ["a/b?c#d%41"], "the player has a row")
        page.find("#players tbody a").click()
        page.until(lambda: page.text("#player-title") == "Player a/b?c#d%41", "the view of the player")
        page.until(lambda: "connected" in page.text("#player-figures"), "the broker knows it")
        assert page.driver.title == "Player a/b?c#d%41 \u00b7 ringback"
        page.driver.back()
        page.until(lambda: view_of(page) == "players", "back")
        page.driver.forward()
        page.until(lambda: view_of(page) == "player", "forward")
        page.driver.refresh()
        page.until(lambda: "connected" in page.text("#player-figures"), "the address leads to it too")
        go(page, "callbacks?sort=side&order=descending")
        page.until(lambda: [row[2] for row in page.rows("callbacks")] == ["server", "player"], "sorted")
        page.find("#callbacks tbody a").click()
        page.until(lambda: page.text("#callback-title") == "odd/key?x=1#%41", "the view of the callback")
        page.until(lambda: "endpoints" in page.text("#callback-figures"), "the broker knows it")
        go(page, "callback/player/nobody")
        page.until(lambda: "not registered" in page.text("#callback-none"), "one that nobody has")
        go(page, "player/nobody")
        page.until(lambda: "id must be a player ID" in page.text("#view-error"), "an address that is wrong")
        go(page, "player/99")
        page.until(
            lambda: page.text("#player-none") == "This player is not connected.", "one that is not there"
        )
        assert page.text("#view-error") == ""
        page.run("location.hash = '#/no-such-view'")
        page.until(lambda: view_of(page) == "overview", "an unknown view")


def test_failures_of_before_anybody_looked(page: Browser, broker: BrokerProcess) -> None:
    def sold_out(source: Any, payload: Any) -> None:
        raise CallbackError("all gone", code="SOLD_OUT")

    server = Server(broker.backend)
    server.register_server_callback("shop:buy", sold_out)
    server.register_server_callback("shop:items", lambda source, payload: [])
    with server, Player(broker.players, 7) as player, Player(broker.players, 8) as other:
        for key in ("shop:buy", "shop:items"):
            player.trigger_server_callback(key).exception()
        assert other.trigger_server_callback("shop:by").exception() is not None
        open_page(page, broker, "player/7")
        sold = ["player \u2192 server", "shop:buy", "SOLD_OUT"]
        page.until(lambda: [row[2:5] for row in page.rows("player-failures")] == [sold], "of a player")
        page.find("#player-failures tbody a[href='#/callback/server/shop%3Abuy']").click()
        page.until(lambda: page.text("#callback-title") == "shop:buy", "its key leads to the callback")
        shown = ["7", UNKNOWN, "SOLD_OUT"]
        page.until(lambda: [row[2:5] for row in page.rows("callback-failures")] == [shown], "there too")
        assert page.text("#callback-failures-none") == ""
        go(page, "callback/server/shop%3Aitems")
        none = "None that an endpoint has reported."
        page.until(lambda: page.text("#callback-failures-none") == none, "none of this one")
        go(page, "callback/server/")
        page.until(lambda: "shop:by" in page.text("#callback-failures tbody"), "a key that nobody has")
    assert page.complaints() == []


def test_a_player_that_hangs_is_seen(page: Browser, broker: BrokerProcess) -> None:
    held: list[Any] = []
    player = Player(broker.players, 7)
    player.register_client_callback("hang", lambda payload, cb: held.append(cb))
    with Server(broker.backend) as server, player, Player(broker.players, 8):
        calls = [server.trigger_client_callback("hang", 7) for _ in range(3)]
        open_page(page, broker, "players?sort=in_flight&order=descending")
        script = "return [...document.querySelectorAll('#players thead th')].map(one => one.innerText)"
        column = [head.strip() for head in page.run(script)].index("in flight")

        def shown() -> list[list[str]]:
            return [[row[0], row[column]] for row in page.rows("players")]

        page.until(lambda: shown() == [["7", "3"], ["8", "0"]], "its calls in flight")
        go(page, "player/7")
        page.until(lambda: "in flight\n3" in page.text("#player-figures"), "its figures say so too")
        eventually(lambda: len(held) == 3, "its handlers have begun")
        for cb in held:
            cb(1)
        assert [call.result() for call in calls] == [1, 1, 1]
        page.until(lambda: "in flight\n0" in page.text("#player-figures"), "none is in flight any more")


def test_rows_stay_the_same_while_they_change(page: Browser, broker: BrokerProcess) -> None:
    """So focus and selection stay."""
    with Player(broker.players, 7), Player(broker.players, 8):
        open_page(page, broker, "players")
        page.until(lambda: ids(page) == ["7", "8"], "both players have rows")
        page.run("document.querySelector('#players tbody a').focus()")
        page.run("window.row = document.querySelector('#players tbody tr')")
        before = page.text("#players tbody tr")
        page.until(lambda: page.text("#players tbody tr") != before, "the figures in the row have changed")
        assert page.run("return row.isConnected") and focused(page) == "7"
        head = page.find("#players thead th")
        for order, expected in (("ascending", ["7", "8"]), ("descending", ["8", "7"]), (None, ["7", "8"])):
            head.find_element("tag name", "button").click()
            assert head.get_attribute("aria-sort") == order
            page.until(lambda expected=expected: ids(page) == expected, "the broker has sorted them")
        page.find("#players-filter").send_keys("8")
        page.until(lambda: ids(page) == ["8"], "the filter works")
        assert page.text("#players-count") == "1\u20131 of 1 that match, of 2 in all"
        page.find("#pause").click()
        assert page.find("#pause").get_attribute("aria-pressed") == "true"
        assert page.text("#link-text") == "paused"


def test_the_tap_pauses_and_follows_its_filter(page: Browser, broker: BrokerProcess) -> None:
    def fails(source: Any, payload: Any) -> None:
        raise CallbackError("no", code="SOLD_OUT")

    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("shop:items", lambda source, payload: payload)
        server.register_server_callback("shop:buy", fails)
        open_page(page, broker, "tap")
        tap, button = "[data-tap=all]", page.find("[data-tap=all] .watch")

        def called() -> list[str]:
            return [key for key in page.text(f"{tap} tbody").split() if key.startswith("shop:")]

        def watches(pattern: str) -> None:
            broker.process.wait_for(f"the dashboard watches calls of {pattern}")

        page.find("#tap-key").send_keys("shop:b*")
        button.click()
        assert button.get_attribute("aria-pressed") == "true"
        watches(r"'shop:b\*'")
        assert page.run("return location.hash") == "#/tap?key=shop%3Ab*"
        player.trigger_server_callback("shop:items").result()
        assert player.trigger_server_callback("shop:buy").exception() is not None
        page.until(lambda: called() == ["shop:buy"], "the call that matches is shown")
        assert page.text(f"{tap} .tapcount").startswith("1 call \u00b7 1 failed \u00b7 0 dropped")
        page.find("#tap-key").clear()
        page.find("#tap-errors").click()
        page.find("#tap-player").send_keys("7" + Keys.ENTER)
        watches("all keys, of player 7")
        page.until(lambda: called() == [], "another filter begins with an empty table")
        player.trigger_server_callback("shop:items").result()
        assert player.trigger_server_callback("shop:buy").exception() is not None
        page.until(lambda: called() == ["shop:buy"], "the call that failed is shown")
        button.click()
        assert button.get_attribute("aria-pressed") == "false"
        broker.process.wait_for("no longer watch the calls of any key|no longer watch the calls to")
        page.find("#tap-key").send_keys("[" + Keys.ENTER)
        page.until(lambda: "a pattern must close each [" in page.text(f"{tap} .wrong"), "a wrong pattern")
        assert button.get_attribute("aria-pressed") == "false"
    (complaint,) = page.complaints()
    assert "/api/tap" in complaint and "400" in complaint  # the browser notes the status of the wrong pattern


def test_drain_asks_first(page: Browser, broker: BrokerProcess) -> None:
    open_page(page, broker)
    page.find("#drain").click()
    assert page.text("#confirm-title") == "Drain this broker?"
    page.find("#confirm-no").click()
    assert not page.find("#confirm").is_displayed()
    page.find("#drain").click()
    page.find("#confirm-yes").click()
    broker.process.wait_for("stopping: draining")
    assert broker.process.wait() == 0
    page.until(lambda: "has not answered since" in page.text("#banner"), "the page says that it is gone")


def test_an_order_that_is_refused_says_so(page: Browser, tmp_path: Path) -> None:
    """The dialog stays open, and shows the error."""
    ring = KeyRing(tmp_path)
    token = tmp_path / "token"
    token.write_text(TOKEN)
    key = write_key_pair(ring.add("dashboard", "operator", more="orders = false"), tmp_path)
    anna = ring.add("anna", "player", "anna")
    more = ("--http-token-file", str(token), "--dashboard-key-file", str(key))
    with (
        BrokerProcess(options=(*OPTIONS, *ring.options, *more)) as broker,
        Player(broker.players, "anna", key_file=anna) as player,
    ):
        page.driver.get(f"{url_of(broker)}/#/player/%22anna%22")
        page.until(lambda: "asks for a token" in page.text("#login"), "the page asks for the token")
        page.find("#token").send_keys(TOKEN + Keys.ENTER)
        page.until(lambda: "connected" in page.text("#player-figures"), "the view of the player")
        assert page.text("#player-failures-none").startswith("This page may not show them")
        page.find("#kick").click()
        page.find("#confirm-yes").click()
        page.until(lambda: page.text("#confirm-error").startswith("FORBIDDEN: "), "the dialog says why")
        page.find("#confirm-no").click()
        page.find("[data-tap=player] .watch").click()
        page.until(lambda: page.text("[data-tap=player] .wrong").startswith("FORBIDDEN: "), "so does the tap")
        assert page.text("#link-text") == "live" and player.connected


VIEWS = {
    "": lambda page: bool(page.rows("events") and page.rows("errors") and charted(page, "overview") == 4),
    "players": lambda page: ids(page) == ["7"],
    "callbacks": lambda page: len(keys(page)) == 4,
    "player/7": lambda page: bool(page.rows("player-failures") and page.rows("player-events")),
    "callback/server/breaks": lambda page: bool(page.rows("callback-failures") and page.rows("codes")),
    "callback/player/coords": lambda page: bool(page.text("#callback-figures")),
    "tap": lambda page: bool(page.text("#tap-form")),
    "trigger": lambda page: bool(page.text("#trigger")),
}
"""The views, and how one sees that a view is complete."""


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_all_views_are_accessible(
    page: Browser, broker: BrokerProcess, size: tuple[int, int], dark: bool
) -> None:
    """Check WCAG 2.1 A and AA with axe-core: contrast, names, roles, regions. Nothing is cut off."""
    page.look(size, dark=dark)

    def check(where: str) -> None:
        found = Axe().run(page.driver)["violations"]
        assert [(where, one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        assert page.run("return document.documentElement.scrollWidth") <= size[0], where

    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        server.register_server_callback("breaks", lambda source, payload: 1 / 0)
        player.register_client_callback("coords", lambda payload: payload)
        assert player.trigger_server_callback("breaks").exception() is not None
        open_page(page, broker, "trigger")
        choose(page, "player", "none", "99", "")
        send(page)
        for view, complete in VIEWS.items():
            go(page, view)
            page.until(lambda view=view, complete=complete: complete(page), f"the view {view!r} is complete")
            check(view)
        go(page, "player/7")
        page.find("[data-tap=player] .watch").click()
        broker.process.wait_for("the dashboard watches calls of all keys, of player 7")
        player.trigger_server_callback("echo").result()
        page.until(lambda: "echo" in page.text("[data-tap=player] tbody"), "a call is shown")
        check("a tap")
        page.find("#kick").click()
        check("a dialog")
        page.find("#confirm-no").click()
        go(page, "callback/player/coords")
        trigger_on_all(page)
        page.until(lambda: len(page.rows("outcomes")) == 1, "the outcomes are there")
        check("outcomes")
        ground = page.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 150) is dark
    assert page.complaints() == []


def test_a_realm(page: Browser) -> None:
    """The page of one node shows the players and events of all, and each node."""
    with RealmOfProcesses("ab", options=("--http", "127.0.0.1:0", "--dashboard")) as realm:
        realm.server("b")
        realm.player("a", 1)
        realm.player("b", 2)
        open_page(page, realm.brokers["a"])
        page.until(
            lambda: [row[:2] for row in page.rows("nodes")] == [["a", "this one"], ["b", "linked"]], "nodes"
        )
        page.until(
            lambda: page.text("#now-players") == "2" and page.text("#now-server") == "connected", "counts"
        )
        page.until(
            lambda: (
                {("a", "joined", "1"), ("b", "joined", "2")}
                <= {(row[1], row[2], row[4]) for row in page.rows("events")}
            ),
            "events of both",
        )
        assert Axe().run(page.driver)["violations"] == []
        go(page, "player/2")
        page.until(lambda: page.text("#player-figures").split()[:2] == ["node", "b"], "its node is shown")
        go(page, "players?sort=node")

        def listed() -> list[list[str]]:
            return [row[:2] for row in page.rows("players")]

        page.until(lambda: listed() == [["1", "a"], ["2", "b"]], "players")
        realm.stop("b")
        page.until(lambda: listed() == [["1", "a"]], "the player of a is there")
        go(page, "")
        page.until(lambda: "The figures lack b" in page.text("#nodes-missing"), "b is missing")
        realm.go_on("b")
        page.until(lambda: not page.find("#nodes-missing").is_displayed(), "b is back")
        page.until(lambda: page.rows("nodes")[1][1] == "linked", "it is linked again")
        page.find("#nodes tbody tr:nth-child(2) button").click()
        assert page.text("#confirm-title") == "Drain node b?"
        page.find("#confirm-yes").click()
        assert realm.brokers["b"].process.wait() == 0


# -- few players, and thousands


def test_5_players(page: Browser, broker: BrokerProcess) -> None:
    """They fit on one page, so there is nowhere to go."""
    with ExitStack() as stack:
        for player_id in (7, "7", "anna", "bot-2", "bot-10"):
            stack.enter_context(Player(broker.players, player_id))
        open_page(page, broker, "players?sort=player&order=ascending")
        expected = ["7", '"7"', "anna", "bot-2", "bot-10"]
        page.until(lambda: ids(page) == expected, "numbers first, and numbers in texts count as numbers")
        assert page.text("#players-count") == "1\u20135 of 5"
        buttons = page.run(
            "return [...document.querySelectorAll('#players-pages button')].map(one => one.ariaDisabled)"
        )
        assert buttons == ["true"] * 4
        for name in ("First", "Previous", "Next", "Last"):
            page.find(f"#players-pages [aria-label='{name} page']").click()
        assert page.run("return location.hash") == "#/players?sort=player&order=ascending"
        page.find("#players-filter").send_keys("bot")
        page.find(".views a[href='#/']").click()  # a filter that is being typed does not call the view back
        page.until(lambda: page.text("#now-players") == "5", "the overview counts them")
        page.driver.back()
        page.until(lambda: ids(page) == expected, "the filter was given up")
    assert page.complaints() == []


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_5000_players(page: Browser, tmp_path: Path) -> None:
    """Each can be reached: by pages, by any order, and by the filter. The page gets 50 rows at a time."""
    from crowd import start_crowd
    from processes import allow_many_connections

    count = 5000
    allow_many_connections()
    with ExitStack() as stack:
        broker = stack.enter_context(BrokerProcess(options=OPTIONS))
        for process in start_crowd(stack, "ringback.aio", broker.players, range(count)):
            stack.enter_context(process)  # closes its pipes
            stack.callback(process.kill)
        open_page(page, broker, "players?sort=player")
        page.until(lambda: page.text("#players-count") == "1\u201350 of 5,000", "the first page")
        assert ids(page) == [f"crowd-{number}" for number in range(50)]
        page.find("#players-pages [aria-label='Next page']").click()
        page.until(lambda: ids(page)[:1] == ["crowd-50"], "the next page")
        assert page.text("#players-count") == "51\u2013100 of 5,000"
        page.find("#players-pages [aria-label='Last page']").click()
        page.until(lambda: ids(page)[-1:] == ["crowd-4999"], "the last page")
        following = page.find("#players-pages [aria-label='Next page']")
        assert following.get_attribute("aria-disabled") == "true"
        following.click()
        page.find("#players thead th button").click()
        page.until(lambda: ids(page)[:1] == ["crowd-4999"], "the other order begins on the first page")
        assert page.find("#players thead th").get_attribute("aria-sort") == "descending"
        page.find("#players-filter").send_keys("CROWD-12")
        page.until(
            lambda: page.text("#players-count").endswith("111 that match, of 5,000 in all"), "a filter"
        )
        page.driver.back()
        page.until(lambda: ids(page)[-1:] == ["crowd-4999"], "back to the last page")
        sizes = page.run("return performance.getEntriesByType('resource').map(one => one.encodedBodySize)")
        assert max(sizes) < 100_000, "no answer has all rows"
        for size in (WIDE, NARROW):
            page.look(size)
            found = Axe().run(page.driver)["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
            assert page.run("return document.documentElement.scrollWidth") <= size[0]
        go(page, "player/%22crowd-4321%22")
        page.until(lambda: "connected" in page.text("#player-figures"), "the view of one of them")
        go(page, "trigger?side=player&key=none")
        page.find("#send-all").click()
        page.until(lambda: "5,000 players" in page.text("#confirm-text"), "the dialog says how many")
        page.find("#confirm-yes").click()
        page.until(lambda: "of 5,000 players after" in page.text("#outcome-line"), "all were called")
        assert page.text("#outcome-line").startswith("5,000 UNKNOWN_CALLBACK, of 5,000 players")
        assert page.complaints() == []
