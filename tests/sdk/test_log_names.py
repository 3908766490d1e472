"""Each line of the log names its endpoint: a process may have hundreds."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.faces import HereBroker, LogLines, Stage, played
from support.harness import ROOT

import ringback.aio

LEVELS = {"debug", "info", "warning", "error", "exception", "critical", "log"}


def templates(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the template of each call of the logger in a file."""
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        texts: list[tuple[int, str, str]] = []
        for node in ast.walk(function):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str() as text)):
                    texts.append((node.lineno, name, text))
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Attribute(value=ast.Name(id="log"), attr=level), args=[what, *_]) if (
                    level in LEVELS
                ):
                    yield node.lineno, text_of(what, [text for text in texts if text[0] < node.lineno])


def text_of(what: ast.expr, texts: list[tuple[int, str, str]]) -> str:
    match what:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=[ast.Constant(value=str() as text), *_]):
            return text
        case ast.Name(id=wanted):
            return max((line, text) for line, name, text in texts if name == wanted)[1]
    raise AssertionError(f"the template in line {what.lineno} cannot be read")


def test_the_template_of_each_line_begins_with_the_endpoint() -> None:
    found = [
        (str(path), line, template)
        for path in (ROOT / "sdk").rglob("*.py")
        for line, template in templates(path)
    ]
    assert len(found) >= 20
    assert [one for one in found if not one[2].startswith("%s: ")] == []


def test_lines_about_replies(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    @played
    async def scene(stage: Stage) -> None:
        server, player = await stage.pair()
        server.register_server_callback("returns", lambda source, payload, cb: payload)
        server.register_server_callback("object", lambda source, payload: object())
        player.register_client_callback("own", lambda payload: object())
        player.trigger_server_callback("returns", 1, lambda _: None, on_error=lambda _: None)
        await sdk_log.wait_for("^server: the handler of 'returns' takes cb")
        await stage.failure(player.trigger_server_callback("object"))
        await sdk_log.wait_for("^server: the reply of the handler of 'object' for .* cannot be sent: ")
        await stage.failure(server.trigger_client_callback("own", 7))
        await sdk_log.wait_for("^player 7: the reply of the handler of 'own' for .* cannot be sent: ")

    scene(face, here)


def test_lines_about_functions_of_the_user(face: Any, here: HereBroker, sdk_log: LogLines) -> None:
    """Plain functions and coroutine functions alike, and a hundred equal lines are one.

    The last callbacks may still fail when the test of the other face begins. So each face has its own keys.
    """

    @played
    async def scene(stage: Stage) -> None:
        def fail(*_: Any) -> None:
            raise ValueError

        async def fail_later(*_: Any) -> None:
            raise ValueError

        server, player = await stage.pair()
        for number, function in enumerate((fail, fail_later)):

            def count(source: Any, payload: Any, cb: Any) -> None:
                cb.progress(1)
                cb(2)

            known, unknown = (f"{face.name} {what} {number}" for what in ("count", "unknown"))
            server.register_server_callback(known, count)
            server.on_player_joined(function)
            await stage.results(player.trigger_server_callback(known, on_progress=function))
            await sdk_log.wait_for(f"^player 7: on_progress of a call of '{known}' failed")
            for key in (known, unknown):
                for _ in range(20):
                    player.trigger_server_callback(key, None, function, on_error=function)
                await sdk_log.wait_for(
                    f"^player 7: the callback of a call of '{key}' failed .to the server, call "
                )
        await stage.player(8)
        await sdk_log.wait_for("server: the listener .*fail failed")
        await sdk_log.wait_for("server: the listener .*fail_later failed")
        lines = [
            text for _, text, _ in sdk_log.seen.items if f"the callback of a call of '{face.name}" in text
        ]
        assert 4 <= len(lines) <= 8

    scene(face, here)


def test_the_line_about_a_loop_that_was_closed(here: HereBroker, sdk_log: LogLines) -> None:
    player = ringback.aio.Player(here.players, 7)
    asyncio.run(player.start())
    with pytest.raises(ringback.UsageError, match="start it again"):
        player.trigger_server_callback("k")
    assert any(
        re.search("^player 7: the event loop was closed before", text) for _, text, _ in sdk_log.seen.items
    )
