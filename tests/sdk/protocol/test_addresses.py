"""Addresses that the broker listens on and endpoints connect to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ringback.protocol.addresses import (
    MAX_ADDRESSES,
    MAX_BROKERS,
    MAX_IPC_PATH_BYTES,
    check_address,
    check_addresses,
    dialled,
    in_turn,
    is_local,
    is_numeric,
    split_addresses,
    split_tcp,
)


@pytest.mark.parametrize(
    "address",
    [
        "tcp://127.0.0.1:5770",
        "tcp://broker.example:65535",
        "tcp://[::1]:1",
        "tcp://[fe80::1%eth0]:5770",
        "tcp://broker.example.:5770",
        "tcp://b\u00fccher.example:5770",
        "tcp://_broker._tcp.example:5770",
        f"tcp://{'a' * 63}.example:5770",
        f"tcp://{'.'.join(['a' * 63] * 3)}.{'a' * 61}.:5770",
        "ipc:///run/ringback/players",
        "ipc://" + "p" * MAX_IPC_PATH_BYTES,
    ],
)
@pytest.mark.parametrize("bind", [True, False])
def test_good_addresses_are_returned(address: str, bind: bool) -> None:
    assert check_address(address, bind=bind) == address


@pytest.mark.parametrize(
    ("address", "becomes"),
    [
        ("tcp://*:5770", "tcp://*:5770"),
        ("tcp://127.0.0.1:0", "tcp://127.0.0.1:0"),
        ("tcp://127.0.0.1:*", "tcp://127.0.0.1:0"),
    ],
)
def test_addresses_only_to_listen_on(address: str, becomes: str) -> None:
    assert check_address(address, bind=True) == becomes
    with pytest.raises(ValueError, match=r"port|host"):
        check_address(address, bind=False)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:5770",
        "udp://127.0.0.1:5770",
        "inproc://x",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:",
        "tcp://:5770",
        "tcp://127.0.0.1:65536",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:123456",
        "tcp://127.0.0.1:-1",
        "tcp://127.0.0.1:\u0665",
        "tcp://::1:5770",
        "tcp://a b:5770",
        "tcp://127.0.0.1:5770/x",
        "tcp://.:5770",
        "tcp://.example:5770",
        "tcp://a..example:5770",
        "tcp://broker.example..:5770",
        f"tcp://{'a' * 64}.example:5770",
        f"tcp://{'.'.join(['a' * 63] * 4)}:5770",
        "tcp://" + "\u00fc" * 60 + ".example:5770",
        "tcp://" + "\u00fc" * 300 + ":5770",
        "tcp://\ud800.example:5770",
        "tcp://a\0b:5770",
        "tcp://[::1::]:5770",
        "tcp://[127.0.0.1]:5770",
        "tcp://[fe80::1]:5770",
        "tcp://[]:5770",
        "tcp://127.0.0.1:5770\n",
        "ipc://",
        "ipc://a\0b",
        "ipc://@abstract",
        "ipc://*",
        "ipc://" + "p" * (MAX_IPC_PATH_BYTES + 1),
        "ipc://" + "\u00e9" * 54,
    ],
)
@pytest.mark.parametrize("bind", [True, False])
def test_bad_addresses(address: str, bind: bool) -> None:
    with pytest.raises(ValueError, match=r"address|port"):
        check_address(address, bind=bind)


@pytest.mark.parametrize("address", [None, 5770, b"tcp://127.0.0.1:5770"])
def test_an_address_of_another_type(address: Any) -> None:
    with pytest.raises(TypeError, match="an address must be a str"):
        check_address(address, bind=False)


@settings(deadline=None)
@given(st.text() | st.text().map("tcp://".__add__) | st.text().map("ipc://".__add__), st.booleans())
def test_any_text_is_an_address_or_a_value_error(address: str, bind: bool) -> None:
    try:
        checked = check_address(address, bind=bind)
    except ValueError:
        return
    assert check_address(checked, bind=bind) == checked


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("ipc:///run/x", True),
        ("tcp://127.0.0.1:1", True),
        ("tcp://127.255.3.4:1", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://*:1", False),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://192.0.2.1:1", False),
        ("tcp://eth0:1", False),
        ("tcp://127.0.0.1.example.org:1", False),
        ("tcp://localhost.example.org:1", False),
    ],
)
def test_who_can_reach_an_address(address: str, local: bool) -> None:
    assert is_local(address) is local


@pytest.mark.parametrize(
    ("listener", "address"),
    [
        ("tcp://*:5771", "tcp://127.0.0.1:5771"),
        ("tcp://0.0.0.0:5771", "tcp://127.0.0.1:5771"),
        ("tcp://[::]:5771", "tcp://[::1]:5771"),
        ("tcp://192.0.2.1:5771", "tcp://192.0.2.1:5771"),
        ("ipc:///run/*", "ipc:///run/*"),
    ],
)
def test_the_address_to_connect_to_on_this_machine(listener: str, address: str) -> None:
    assert dialled(listener) == address


@pytest.mark.parametrize(
    ("address", "numeric"),
    [
        ("ipc:///run/x", True),
        ("tcp://127.0.0.1:1", True),
        ("tcp://255.255.255.255:1", True),
        ("tcp://[::1]:1", True),
        ("tcp://[fe80::1%eth0]:1", True),
        ("tcp://localhost:1", False),
        ("tcp://127.0.0.1.:1", False),
        ("tcp://127.1:1", False),
        ("tcp://256.0.0.1:1", False),
        ("tcp://1.2.3.4.5:1", False),
    ],
)
def test_which_addresses_need_no_lookup(address: str, numeric: bool) -> None:
    assert is_numeric(address) is numeric


def test_host_and_port() -> None:
    assert split_tcp("tcp://broker.example:5770") == ("broker.example", 5770)
    assert split_tcp("tcp://[::1]:5770") == ("[::1]", 5770)


@pytest.mark.parametrize(
    ("ips", "order"),
    [
        ([], []),
        (["1.1.1.1"], ["tcp://1.1.1.1:7"]),
        (["::1", "::1"], ["tcp://[::1]:7"]),
        (["::1", "::2", "1.1.1.1"], ["tcp://[::1]:7", "tcp://1.1.1.1:7", "tcp://[::2]:7"]),
        (
            ["1.1.1.1", "2.2.2.2", "fe80::1%eth0"],
            ["tcp://1.1.1.1:7", "tcp://[fe80::1%eth0]:7", "tcp://2.2.2.2:7"],
        ),
    ],
)
def test_families_take_turns(ips: list[str], order: list[str]) -> None:
    assert list(in_turn(ips, 7)) == order


def test_the_addresses_of_a_name_are_bounded() -> None:
    assert len(in_turn([f"10.0.0.{number}" for number in range(200)], 7)) == MAX_ADDRESSES


# -- several


@pytest.mark.parametrize(
    "addresses",
    [
        "tcp://a.test:1",
        "ipc:///run/a,b",
        ["tcp://a.test:1"],
        ("tcp://a.test:1", "tcp://a.test:2", "tcp://b.test:1"),
        ["tcp://a.test:1", "ipc:///run/a", "ipc:///run/A", "tcp://[::1]:1"],
        [f"tcp://a.test:{port}" for port in range(1, MAX_BROKERS + 1)],
    ],
)
def test_good_lists_are_returned(addresses: Any) -> None:
    expected = (addresses,) if isinstance(addresses, str) else tuple(addresses)
    assert check_addresses(addresses) == expected


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        ([], "a list of addresses must have 1 to 64 of them, not 0"),
        ([f"tcp://a.test:{port}" for port in range(1, MAX_BROKERS + 2)], "1 to 64 of them, not 65"),
        (["tcp://a.test:1", "tcp://a.test:0"], "address 2 of the list: a port must be from 1"),
        (["tcp://a.test:1", "a.test:2"], "address 2 of the list: an address must be tcp://HOST:PORT"),
        (["tcp://a.test:1"] * 2, "must differ: 'tcp://a.test:1' and 'tcp://a.test:1' do not"),
        (["tcp://a.test:01", "tcp://b.test:1", "tcp://A.test:1"], "'tcp://a.test:01' and 'tcp://A.test:1'"),
        (["ipc:///run/a", "ipc:///run/a"], "must differ"),
        ("tcp://a.test:1,tcp://b.test:1", "without commas, .*: give several as a list of str"),
        ("tcp://a.test:1 , ipc:///run/a", "without commas"),
        ("ipc:///run/a,tcp://b.test:1", "without commas"),
        (["tcp://a.test:1,tcp://b.test:1"], "address 1 of the list: .* without commas"),
        ("tcp://a.test,b.test:1", "the host of an address must be one name or IP, not 'a.test,b.test'"),
    ],
)
def test_bad_lists_are_one_clear_error(addresses: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_addresses(addresses)


@pytest.mark.parametrize(
    ("addresses", "said"),
    [
        (None, "an address must be a str, or a list of str, not NoneType"),
        (b"tcp://a.test:1", "not bytes"),
        ({"tcp://a.test:1"}, "not set"),
        ({"tcp://a.test:1": 1}, "not dict"),
        (iter(["tcp://a.test:1"]), "not list_iterator"),
        (["tcp://a.test:1", 7], "address 2 of the list: an address must be a str, not int"),
        ([["tcp://a.test:1"]], "address 1 of the list: an address must be a str, not list"),
    ],
)
def test_lists_of_other_types(addresses: Any, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        check_addresses(addresses)


def test_a_broker_listens_at_one_address() -> None:
    with pytest.raises(ValueError, match="a broker listens at one address of each side"):
        check_address("tcp://a.test:1,tcp://b.test:1", bind=True)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("tcp://a.test:1", ["tcp://a.test:1"]),
        (" tcp://a.test:1, tcp://b.test:1 ,ipc:///a ", ["tcp://a.test:1", "tcp://b.test:1", "ipc:///a"]),
        ("ipc:///run/a,b", ["ipc:///run/a,b"]),
        ("tcp://a.test:1,b.test:1", ["tcp://a.test:1,b.test:1"]),
        ("tcp://a.test:1,", ["tcp://a.test:1,"]),
        ("", [""]),
    ],
)
def test_commas_separate_addresses_in_a_text(text: str, addresses: list[str]) -> None:
    assert split_addresses(text) == addresses
