"""The dashboard's page in a real browser: what it shows, what the form does, and accessibility."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_core_python.selenium import Axe
from selenium.webdriver.common.keys import Keys
from support.browser import CHROMIUM, DRIVER, NARROW, WIDE, Browser, browser
from support.harness import BrokerProcess, Process
from support.realm_processes import RealmOfProcesses

from ringback import CallbackError, Player, Server, ServerCallback

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="chromium and chromedriver are not installed: `make browser` as root installs them",
)

ACTOR = Path(__file__).resolve().parents[2] / "support" / "actor.py"
TOKEN = "correct-horse-battery"
UNKNOWN = "\u2013"


def url_of(broker: BrokerProcess) -> str:
    found = re.search(r"http=(\S+)", "\n".join(broker.process.lines))
    assert found is not None
    return found[1].replace("0.0.0.0", "127.0.0.1")


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


@pytest.fixture
def broker() -> Iterator[BrokerProcess]:
    with BrokerProcess(options=("--http", "127.0.0.1:0", "--dashboard")) as broker:
        yield broker


def open_page(page: Browser, broker: BrokerProcess) -> None:
    page.driver.get(url_of(broker))
    page.until(lambda: page.text("#link-text") == "live", "the page is live")


def ids(page: Browser) -> list[str]:
    return [row[0] for row in page.rows("players")]


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


def test_players_come_and_go(page: Browser, broker: BrokerProcess) -> None:
    open_page(page, broker)
    assert page.text("#now-players") == "0" and page.text("#now-server") == "none"
    with Server(broker.backend), Player(broker.players, "7") as player:
        player.register_client_callback("local:coords", lambda payload: None)
        with Process(str(ACTOR), "blocking", "Player", broker.players, "7", stdin=subprocess.PIPE) as doomed:
            doomed.wait_for("ready")
            page.until(lambda: sorted(ids(page)) == ['"7"', "7"], "both players have rows")
            page.until(lambda: page.text("#now-players") == "2", "both players are counted")
            page.until(lambda: ["local:coords", "player", "1"] in keys(page), "its callback has a row")
            assert page.text("#now-server") == "connected"
            with Server(broker.backend, standby=True):
                page.until(lambda: page.text("#now-server").endswith(", 1 standing by"), "it stands by")
            doomed.kill()
            page.until(lambda: ids(page) == ['"7"'], "the killed player has no row")
    page.until(lambda: ids(page) == [], "no player has a row")
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
    page.until(lambda: pace(page) == 0, "the rate falls again")


def rate(page: Browser, key: str) -> float:
    """Return the calls per second in the row of a callback; 0 if it has no row."""
    return max((float(row[4]) for row in page.rows("callbacks") if row[0] == key), default=0.0)


def test_the_form(page: Browser, broker: BrokerProcess) -> None:
    open_page(page, broker)
    with Server(broker.backend) as server, Player(broker.players, 2**63 - 1) as player:
        server.register_server_callback("echo", lambda source, payload: [source, payload])
        server.register_server_callback("many", lambda source, payload, cb: cb(b"\0", 2**60 + 1))
        player.register_client_callback("none", lambda payload, cb: cb())
        choose(page, "server", "echo", '"7"', '{"x": 9007199254740993}')
        assert re.fullmatch(r"Result after [\d.]+ ms", send(page))
        assert re.sub(r"\s", "", page.text("#outcome-value")) == '["7",{"x":9007199254740993}]'
        choose(page, "server", "many", "shop", "")
        assert send(page).startswith("2 results after")
        assert (
            page.text("#outcome-value").replace(" ", "")
            == '[\n{\n"base64":"AA=="\n},\n1152921504606846977\n]'
        )
        page.until(lambda: ids(page) == [str(2**63 - 1)], "the player has a row")
        page.find("#players tbody button").click()
        assert page.find("#whom").get_attribute("value") == str(2**63 - 1)
        choose(page, "player", "none", str(2**63 - 1), "null")
        assert send(page).startswith("No results after")
    assert page.complaints() == []


def test_the_form_shows_what_a_callback_takes(page: Browser, broker: BrokerProcess) -> None:
    with Server(broker.backend) as server:
        server.register(ServerCallback("shop:buy", list[int], None), lambda source, payload: None)
        server.register_server_callback("plain", lambda source, payload: None)
        open_page(page, broker)
        page.until(lambda: len(page.rows("callbacks")) == 2, "both callbacks are listed")
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

    open_page(page, broker)
    with Server(broker.backend) as server:
        server.register_server_callback("fails", fails)
        server.register_server_callback("breaks", breaks)
        choose(page, "player", "local:coords", "99", "")
        assert send(page).startswith("UNKNOWN_PLAYER: ") and "did not run" in page.text("#outcome-line")
        page.until(
            lambda: ["bounced unknown player", "1"] in [row[:2] for row in page.rows("errors")],
            "the bounce has a row",
        )
        choose(page, "server", "fails", "shop", "")
        assert send(page).startswith("SOLD_OUT: all <b>gone</b>, after")
        assert page.text("#outcome-value") == '{\n  "left": 0\n}'
        page.until(
            lambda: ["calls failed: APPLICATION", "1"] in [row[:2] for row in page.rows("errors")],
            "the failed call has a row",
        )
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
    open_page(page, broker)
    odd = "<img src=x onerror=alert(1)>"
    with Player(broker.players, odd) as player:
        player.register_client_callback(odd, lambda payload: None)
        page.until(
            lambda: ids(page) == [odd] and [odd, "player", "1"] in keys(page), "the page shows it as text"
        )
    assert page.run("return document.querySelectorAll('main img').length") == 0
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


def test_the_form_works_with_the_keyboard_only(page: Browser, broker: BrokerProcess) -> None:
    with Server(broker.backend) as server, Player(broker.players, 7) as player:
        server.register_server_callback("echo", lambda source, payload: payload)
        player.register_client_callback("coords", lambda payload: {"x": 1, "of": payload})
        open_page(page, broker)
        page.until(lambda: ids(page) == ["7"] and len(keys(page)) == 2, "all rows are there")
        press(page, Keys.TAB)
        assert focused(page) == "Skip to the figures"
        for _ in range(60):
            press(page, Keys.TAB)
            if focused(page) == "coords":
                break
        outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
        assert (focused(page), outline) == ("coords", "solid")
        press(page, Keys.ENTER)
        assert focused(page) == "whom"
        press(page, "7", Keys.TAB, "[1, 2]", Keys.TAB, Keys.TAB, Keys.ENTER)
        page.until(lambda: "Result after" in page.text("#outcome-line"), "the page shows the result")
        assert re.sub(r"\s", "", page.text("#outcome-value")) == '{"x":1,"of":[1,2]}'
        assert focused(page) == "send"  # the focus stays there for the next call


def test_rows_stay_the_same_while_they_change(page: Browser, broker: BrokerProcess) -> None:
    """So focus and selection stay."""
    with Player(broker.players, 7), Player(broker.players, 8):
        open_page(page, broker)
        page.until(lambda: ids(page) == ["7", "8"], "both players have rows")
        page.run("document.querySelector('#players tbody button').focus()")
        page.run("window.row = document.querySelector('#players tbody tr')")
        before = page.text("#players tbody tr")
        page.until(lambda: page.text("#players tbody tr") != before, "the figures in the row have changed")
        assert page.run("return row.isConnected") and focused(page) == "7"
        head = page.find("#players thead th")
        head.find_element("tag name", "button").click()
        assert (head.get_attribute("aria-sort"), ids(page)) == ("ascending", ["7", "8"])
        head.find_element("tag name", "button").click()
        assert (head.get_attribute("aria-sort"), ids(page)) == ("descending", ["8", "7"])
        page.find("#players-filter").send_keys("8")
        page.until(lambda: ids(page) == ["8"], "the filter works")
        assert page.text("#players-count") == "1 that match, of 2"
        page.find("#pause").click()
        assert page.find("#pause").get_attribute("aria-pressed") == "true"
        assert page.text("#link-text") == "paused"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("size", [WIDE, NARROW])
def test_the_page_is_accessible(
    page: Browser, broker: BrokerProcess, size: tuple[int, int], dark: bool
) -> None:
    """Check WCAG 2.1 A and AA with axe-core: contrast, names, roles, regions."""
    page.look(size, dark=dark)
    with Server(broker.backend) as server, Player(broker.players, 7):
        server.register_server_callback("echo", lambda source, payload: payload)
        open_page(page, broker)
        page.until(lambda: ids(page) == ["7"] and page.rows("events") != [], "all rows are there")
        choose(page, "player", "none", "99", "")
        send(page)
        page.until(lambda: page.rows("errors") != [], "the error has a row")
        found = Axe().run(page.driver)["violations"]
        assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
        ground = page.run("return getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) < 150) is dark
        assert page.run("return document.documentElement.scrollWidth") <= size[0]
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
        page.until(lambda: [row[:2] for row in page.rows("players")] == [["1", "a"], ["2", "b"]], "players")
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
        realm.stop("b")
        page.until(lambda: "The figures lack b" in page.text("#nodes-missing"), "b is missing")
        page.until(
            lambda: [row[:2] for row in page.rows("players")] == [["1", "a"]], "the player of a is there"
        )
        realm.go_on("b")
        page.until(lambda: not page.find("#nodes-missing").is_displayed(), "b is back")
