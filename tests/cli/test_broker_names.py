"""Commands that dial the broker by a name."""

from __future__ import annotations

from support.harness import ROOT, BrokerProcess, Process

from ringback_cli.exits import Exit

NAMES = str(ROOT / "tests" / "support" / "names.py")
"""Runs a program with names of the test's own."""


def test_a_name_with_an_ipv6_alone() -> None:
    with BrokerProcess(backend="tcp://[::1]:0") as broker:
        address = broker.backend.replace("[::1]", "six.test")
        command = ("-m", "ringback_cli", "ping", "--count", "1", "--json", "--backend", address)
        with Process(NAMES, '{"six.test": ["::1"]}', *command) as process:
            process.wait_for("round_trips_ms")
            assert process.wait() == Exit.OK


def test_a_name_that_does_not_exist() -> None:
    command = ("-m", "ringback_cli", "players", "--timeout", "0.5", "--backend", "tcp://no.test:5771")
    with Process(NAMES, "{}", *command) as process:
        process.wait_for("^NO_BROKER: .*the name 'no.test' cannot be resolved: Name or service not known")
        assert process.wait() == Exit.NO_BROKER


def test_doctor_says_which_address_of_a_name_answers() -> None:
    with BrokerProcess() as broker:
        address = broker.backend.replace("127.0.0.1", "two.test")
        environment = {"RINGBACK_BACKEND": address, "RINGBACK_INSECURE": "true"}
        arguments = ('{"two.test": ["127.0.0.2", "127.0.0.1"]}', "-m", "ringback_cli", "doctor", "--json")
        with Process(NAMES, *arguments, environment=environment) as process:
            process.wait_for(rf"{address} \({broker.backend}\) answers in")
            assert process.wait() == Exit.OK
