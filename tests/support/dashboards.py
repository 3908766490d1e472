"""Asking the dashboard of a broker over HTTP, for its tests."""

from __future__ import annotations

import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPMessage
from typing import Any
from urllib.parse import urlencode

from support.harness import PATIENCE_S, BrokerProcess

from ringback_broker.daemon.broker import Broker
from ringback_broker.settings.schema import BrokerSettings

OPTIONS = ("--http", "127.0.0.1:0", "--dashboard")


def url_of(broker: BrokerProcess) -> str:
    found = re.search(r"http=(\S+)", "\n".join(broker.process.lines))
    assert found is not None
    return found[1].replace("0.0.0.0", "127.0.0.1")


def ask(
    url: str, body: bytes | None = None, method: str | None = None, **headers: str
) -> tuple[int, Any, HTTPMessage]:
    """Return status, value or text, and headers of a response."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = urllib.request.Request(url, body, named, method=method)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            status, text, sent = response.status, response.read().decode(), response.headers
    except urllib.error.HTTPError as error:
        with error:
            status, text, sent = error.code, error.read().decode(), error.headers
    is_json = sent["Content-Type"].startswith("application/json")
    return status, json.loads(text) if is_json else text, sent


def get(url: str, path: str, **parameters: str) -> dict[str, Any]:
    """Return what a path answers."""
    status, found, _ = ask(f"{url}/api/{path}{'?' if parameters else ''}{urlencode(parameters)}")
    assert status == 200, found
    return dict(found)


def state(url: str) -> dict[str, Any]:
    return get(url, "state")


def post(url: str, path: str, **fields: Any) -> tuple[int, Any]:
    """Return the status and the answer of a path that is sent an object."""
    status, found, _ = ask(f"{url}/api/{path}", json.dumps(fields).encode(), Content_Type="application/json")
    return status, found


def trigger(url: str, **wanted: Any) -> dict[str, Any]:
    status, found = post(url, "trigger", **{"timeout": PATIENCE_S, **wanted})
    assert status == 200, found
    assert found.pop("took_ms") >= 0
    return dict(found)


@contextmanager
def running(**settings: Any) -> Iterator[tuple[Broker, str]]:
    """Run a broker in a thread of the test, so that the test can lower its bounds."""
    made = Broker(BrokerSettings("tcp://127.0.0.1:0", "tcp://127.0.0.1:0", http="127.0.0.1:0", **settings))
    thread = threading.Thread(target=made.run)
    thread.start()
    try:
        assert made.http is not None
        yield made, made.http
    finally:
        made.stop()
        made.stop()
        thread.join(PATIENCE_S)
