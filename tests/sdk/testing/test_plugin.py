"""The plugin in projects of users: with plain pytest, pytest-asyncio and anyio."""

from __future__ import annotations

import os

import pytest
from support.harness import ENVIRONMENT

pytest_plugins = "pytester"

PLAIN = """
import asyncio

from ringback.testing import until_joined

CLOSED = []


def test_blocking(ringback_endpoints, ringback_calls):
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    until_joined(server, 7)
    server.register_server_callback("echo", lambda source, payload: payload)
    assert player.trigger_server_callback("echo", 1).result() == 1
    assert [call.results for call in ringback_calls.until(1)] == [(1,)]
    CLOSED.extend([server, player])


def test_asyncio(ringback_aio_endpoints, ringback_aio_calls):
    async def run():
        server, player = await ringback_aio_endpoints.server(), await ringback_aio_endpoints.player(7)
        await until_joined(server, 7)
        server.register_server_callback("echo", lambda source, payload: payload)
        assert await player.trigger_server_callback("echo", 1) == 1
        assert [call.results for call in await ringback_aio_calls.until(1)] == [(1,)]
        CLOSED.extend([server, player])

    asyncio.run(run())
    assert len(CLOSED) == 4 and not any(endpoint.connected for endpoint in CLOSED)


def test_two_loops(ringback_aio_endpoints):
    async def run():
        CLOSED.append(await ringback_aio_endpoints.player(7))

    asyncio.run(run())
    asyncio.run(run())  # the same ID: the first one has left


def test_a_loop_that_is_closed_without_its_generators(ringback_aio_endpoints, ringback_errors):
    async def run():
        CLOSED.append(await ringback_aio_endpoints.player(7))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(run())
    loop.close()


def test_the_end():
    assert len(CLOSED) == 7 and not any(endpoint._shell.running for endpoint in CLOSED)
"""

ASYNC = """
from ringback import HandlerError
from ringback.testing import until_joined
{imports}

CLOSED = []


{fixture}
async def server(ringback_aio_endpoints{backend}):
    server = await ringback_aio_endpoints.server()
    server.register_server_callback("echo", lambda source, payload: payload)
    return server


{mark}
async def test_calls(server, ringback_aio_endpoints, ringback_aio_calls):
    player = await ringback_aio_endpoints.player(7)
    await until_joined(server, 7)
    assert await player.trigger_server_callback("echo", 1) == 1
    assert [call.results for call in await ringback_aio_calls.until(1)] == [(1,)]
    CLOSED.extend([server, player])


{mark}
async def test_a_broker_that_dies(server, ringback_broker):
    assert len(CLOSED) == 2 and not any(endpoint.connected for endpoint in CLOSED)
    ringback_broker.kill()
    CLOSED.append(server)


{mark}
async def test_a_handler_fails(server, ringback_aio_endpoints):
    assert len(CLOSED) == 3 and not any(endpoint._shell.running for endpoint in CLOSED)

    @server.register_server_callback("divide")
    async def divide(source, payload):
        return 1 / payload

    player = await ringback_aio_endpoints.player(7)
    try:
        await player.trigger_server_callback("divide", 0)
    except HandlerError:
        pass


def test_in_between(ringback_endpoints):
    assert ringback_endpoints.player(7).connected
"""

ASYNCIO_FIXTURE = {
    "imports": "import pytest_asyncio",
    "fixture": "@pytest_asyncio.fixture",
    "backend": "",
    "mark": "",
}

MODES = {
    "asyncio-strict": (
        "asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function",
        "import pytest\n",
        {**ASYNCIO_FIXTURE, "mark": "@pytest.mark.asyncio"},
    ),
    "asyncio-auto": (
        "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function",
        "",
        {"imports": "import pytest", "fixture": "@pytest.fixture", "backend": "", "mark": ""},
    ),
    "asyncio-auto-one-loop": (
        "asyncio_mode = auto\nasyncio_default_test_loop_scope = session\n"
        "asyncio_default_fixture_loop_scope = session",
        "",
        ASYNCIO_FIXTURE,
    ),
    "anyio": (
        "asyncio_mode = strict\nasyncio_default_fixture_loop_scope = function",
        "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n",
        {
            "imports": "",
            "fixture": "@pytest.fixture",
            "backend": ", anyio_backend",
            "mark": "@pytest.mark.anyio",
        },
    ),
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pytest's subprocesses import what this one imports."""
    monkeypatch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
    monkeypatch.setenv("COLUMNS", "200")
    for name in os.environ:
        if name.startswith(("PYTEST_", "RINGBACK_")):
            monkeypatch.delenv(name)


ONE_LOOP_EACH = "asyncio_default_fixture_loop_scope = function"
"""pytest-asyncio warns of a project that does not say this."""


def run(
    pytester: pytest.Pytester, source: str, *arguments: str, ini: str = ONE_LOOP_EACH
) -> pytest.RunResult:
    """Run a test file in a project of its own. Each warning is an error."""
    pytester.makeini(f"[pytest]\nfilterwarnings = error\n{ini}\n")
    pytester.makepyfile(source)
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *arguments)


def test_plain_pytest(pytester: pytest.Pytester) -> None:
    run(pytester, PLAIN, "-p", "no:asyncio", "-p", "no:anyio", ini="").assert_outcomes(passed=5)


@pytest.mark.parametrize("mode", MODES)
def test_coroutines(pytester: pytest.Pytester, mode: str) -> None:
    ini, head, names = MODES[mode]
    result = run(pytester, head + ASYNC.format(**names), ini=ini)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "*test_a_handler_fails*",
            ">*return 1 / payload",
            "E*ZeroDivisionError: division by zero",
            "E*server: the handler of 'divide' failed for player 7 (call *)",
            "FAILED *::test_a_handler_fails - ZeroDivisionError: division by zero",
        ]
    )


def test_tests_in_several_processes(pytester: pytest.Pytester) -> None:
    source = """
import pytest
from ringback.testing import reconnected, until_joined

@pytest.mark.parametrize("number", range(20))
def test_restart(ringback_broker, ringback_endpoints, number):
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)
    with reconnected(server, player):
        ringback_broker.restart()
    until_joined(server, 7)
    assert server.players == [7]
"""
    run(pytester, source, "-n", "2").assert_outcomes(passed=20)


ERRORS = """
import re
import threading

import pytest
from ringback import HandlerError


@pytest.fixture
def call(ringback_endpoints):
    server, player = ringback_endpoints.server(), ringback_endpoints.player(7)

    @server.register_server_callback("divide")
    def divide(source, payload):
        return 1 / payload

    return lambda payload: player.trigger_server_callback("divide", payload)


def test_nobody_looks(call):
    assert call(0).error


def test_the_caller_raises(call):
    call(0).result()


def test_several(call):
    assert call(0).error and call("x").error


def test_a_callback_fails(call, ringback_errors):
    told = threading.Event()

    def callback(result):
        told.set()
        raise LookupError("of a callback")

    player = call(1)._endpoint
    player.trigger_server_callback("divide", 1, callback)
    told.wait(10)
    ringback_errors._changes.wait(lambda: ringback_errors.exceptions, 10, str)


def test_expected(call, ringback_errors):
    ringback_errors.expect(ZeroDivisionError, match="the handler of 'divide' failed for player 7")
    assert call(0).error and call(0).error
    assert [type(error) for error in ringback_errors.exceptions] == [ZeroDivisionError]


def test_expected_after_it_happened(call, ringback_errors):
    assert call(0).error
    ringback_errors.expect(ArithmeticError)


def test_expected_something_else(call, ringback_errors):
    ringback_errors.expect(LookupError)
    assert call(0).error


def test_expected_and_nothing_happens(call, ringback_errors, monkeypatch):
    monkeypatch.setattr("ringback.testing.log_errors.PATIENCE_S", 0.1)
    ringback_errors.expect(LookupError, match="x+")
    assert call(1).result() == 1


def test_expectations_that_cannot_be(ringback_errors):
    no_kinds = ("LookupError", ""), (LookupError("x"), ""), (int, "")
    for kind, match in (*no_kinds, (LookupError, b"x"), (LookupError, "(")):
        with pytest.raises((TypeError, re.error)):
            ringback_errors.expect(kind, match=match)


def test_an_error_of_the_test_itself_comes_first(call):
    assert call(0).error
    assert 1 + 1 == 3


@pytest.fixture
def late(call):
    yield
    assert call(0).error


def test_late(late):
    pass


def test_without_fixtures_of_ringback():
    import logging

    logging.getLogger("ringback.sdk").error("nobody asked")


def test_the_same_line_again(ringback_errors):
    import logging

    logging.getLogger("ringback.sdk").error("nobody asked")


def test_without_an_exception(ringback_errors):
    import logging

    logging.getLogger("ringback.sdk").error("a %s", "fault")


def test_warnings_fail_nothing(ringback_errors):
    import logging

    logging.getLogger("ringback.broker").warning("only a warning")
"""


def test_errors_reach_the_test(pytester: pytest.Pytester) -> None:
    result = run(pytester, ERRORS, "--tb=short")
    result.assert_outcomes(passed=6, failed=9, errors=1)
    for lines in (
        [
            "*_ test_nobody_looks _*",
            "*in divide",
            "    return 1 / payload",
            "E   ZeroDivisionError: division by zero",
        ],
        ["*_ test_the_caller_raises _*", "E   ZeroDivisionError*", "*direct cause of*", "E   *HandlerError*"],
        [
            "*_ test_several _*",
            "*ringback logged 2 errors (2 sub-exceptions)*",
            "*ZeroDivisionError*",
            "*TypeError*",
        ],
        ["E   LookupError: of a callback", "E   player 7: the callback of a call of 'divide' failed (*)"],
        ["*_ test_expected_something_else _*", "E   ZeroDivisionError*"],
        ["E   AssertionError: ringback logged no error: LookupError that matches 'x+'"],
        ["*_ test_an_error_of_the_test_itself_comes_first _*", "E   assert (1 + 1) == 3"],
        ["*_ test_the_same_line_again _*", "E   *LoggedError: nobody asked"],
        ["*_ test_without_an_exception _*", "E   ringback.testing.log_errors.LoggedError: a fault"],
        ["ERROR *::test_late - ZeroDivisionError: division by zero"],
    ):
        result.stdout.fnmatch_lines(lines)


HIDDEN = """
import logging
import logging.config

import pytest


def hide(how):
    match how:
        case "dictConfig":
            logging.config.dictConfig({"version": 1})
        case "level":
            logging.getLogger("ringback").setLevel(logging.CRITICAL)
        case "disable":
            logging.disable(logging.ERROR)


@pytest.fixture
def logging_of_ringback():
    logger = logging.getLogger("ringback.sdk")
    yield
    logger.disabled = False
    logging.getLogger("ringback").setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("how", ["dictConfig", "level"])
def test_before(logging_of_ringback, request, how):
    hide(how)
    request.getfixturevalue("ringback_errors")
    logging.getLogger("ringback.sdk").error("seen")


@pytest.mark.parametrize("how", ["dictConfig", "level", "disable"])
def test_meanwhile(logging_of_ringback, ringback_errors, how):
    hide(how)
    logging.getLogger("ringback.sdk").error("not seen")


def test_afterwards(ringback_errors):
    assert logging.getLogger("ringback.sdk").isEnabledFor(logging.ERROR)
"""


def test_a_program_that_hides_errors(pytester: pytest.Pytester) -> None:
    result = run(pytester, HIDDEN)
    result.assert_outcomes(passed=4, failed=2, errors=3)
    result.stdout.fnmatch_lines(
        [
            "E*LoggedError: seen",
            "ERROR *::test_meanwhile?dictConfig? - *HiddenErrorsWarning: the program hid errors of*",
        ]
    )


def test_a_project_without_tests_of_ringback_loads_little(pytester: pytest.Pytester) -> None:
    source = """
import sys

def test_modules():
    assert "ringback.testing.plugin" in sys.modules
    assert not {"zmq", "msgpack", "ringback.aio", "ringback_broker"} & set(sys.modules)
"""
    run(pytester, source).assert_outcomes(passed=1)


def test_all_fixtures_begin_with_ringback(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_subprocess("--fixtures", "-p", "no:cacheprovider")
    shown = [line for line in result.outlines if line.startswith("ringback_")]
    assert [line.split()[0] for line in shown] == [
        "ringback_settings",
        "ringback_errors",
        "ringback_broker",
        "ringback_network",
        "ringback_endpoints",
        "ringback_aio_endpoints",
        "ringback_calls",
        "ringback_aio_calls",
    ]


def test_the_plugin_can_be_switched_off(pytester: pytest.Pytester) -> None:
    source = "def test_broker(ringback_broker): pass"
    result = run(pytester, source, "-p", "no:ringback")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*fixture 'ringback_broker' not found*"])


def test_a_network_that_is_asked_for_too_late(pytester: pytest.Pytester) -> None:
    source = """
def test_late(request, ringback_broker):
    request.getfixturevalue("ringback_network")
"""
    result = run(pytester, source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E*UsageError: there is no network *: let the test have the argument*"])
