"""The golden bytes in tests/vectors: values are encoded to them, and they are decoded to the values."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import fields as fields_of
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest

from ringback.errors import EXECUTED, Code, ProtocolError, RejectCode, call_error
from ringback.protocol import control
from ringback.protocol.bounces import bounce
from ringback.protocol.bundles import bundle, unbundle
from ringback.protocol.envelope_decoding import decode
from ringback.protocol.envelopes import Encoder, join
from ringback.protocol.frames import (
    BROKER_ACCEPTS,
    ENDPOINT_TRANSITIONS,
    HEADER,
    HEADER_BYTES,
    FrameType,
    Role,
    header,
)
from ringback.protocol.limits import Limits
from ringback.protocol.player_ids import decode_player_id, encode_player_id
from ringback.protocol.reports import (
    CallbackFigures,
    CallFilter,
    FailedCall,
    LatencyCounts,
    PlayerFigures,
    PlayerInFlight,
    WatchedCall,
)

VECTORS = Path(__file__).parents[2] / "vectors"
FRAME_CLASSES = {frame.type: frame for frame in get_args(control.ControlFrame)}


def plain(value: Any) -> Any:
    """Return the value of JSON with the marks $bin, $float and $map."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    match value:
        case {"$bin": digits}:
            return bytes.fromhex(digits)
        case {"$float": name}:
            return float(name)
        case {"$map": pairs}:
            return {plain(key): plain(item) for key, item in pairs}
    return {key: plain(item) for key, item in value.items()}


def load(file: str, part: str) -> list[Any]:
    vectors = json.loads((VECTORS / file).read_text(encoding="utf-8"))[part]
    return [pytest.param(vector, id=vector["name"]) for vector in vectors]


def control_frame(vector: dict[str, Any]) -> control.ControlFrame:
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in plain(vector["fields"]).items()
    }
    kinds = {"role": Role, "subject": control.Subject, "code": RejectCode}
    kinds |= {"what": control.What} | ({"code": Code} if vector["type"] == "ANSWER" else {})
    for name in kinds.keys() & values.keys():
        values[name] = None if values[name] is None else kinds[name](values[name])
    rows: dict[str, Callable[[list[Any]], Any]] = {
        "callbacks": lambda row: CallbackFigures(row[0], Role(row[1]), *row[2:4], tuple(row[4]), row[5]),
        "players": lambda row: PlayerFigures(*row),
        "in_flight": lambda row: PlayerInFlight(*row),
        "failures": lambda row: FailedCall(row[0], Role(row[1]), *row[2:]),
        "latencies": lambda row: LatencyCounts(row[0], Role(row[1]), tuple(row[2]), tuple(row[3])),
        "calls": lambda row: WatchedCall(row[0], Role(row[1]), *row[2:]),
        "watches": lambda row: CallFilter(*row),
    }
    for name in rows.keys() & {name for name, value in values.items() if value is not None}:
        values[name] = tuple(map(rows[name], values[name]))
    frame: control.ControlFrame = FRAME_CLASSES[FrameType[vector["type"]]](**values)
    return frame


def encode_envelope(envelope: list[Any]) -> bytes:
    encoder = Encoder(Limits())
    match envelope:
        case [1, call_id, key, payload, budget_ms, *context]:
            return encoder.call(call_id, key, payload, budget_ms, *context)
        case [2, call_id, results]:
            return encoder.result(call_id, tuple(results))
        case [3, call_id, code, message, executed, data]:
            return encoder.error(call_id, call_error(code, message, EXECUTED[executed], data))
        case [4, call_id]:
            return encoder.cancel(call_id)
        case [5, call_id, value]:
            return encoder.progress(call_id, value)
    raise AssertionError(envelope)


@pytest.mark.parametrize("vector", load("control.json", "frames"))
def test_a_control_frame_says_who_decodes_it(vector: dict[str, Any]) -> None:
    kind = FrameType[vector["type"]]
    accepting = ["broker"] if any(kind in kinds for kinds in BROKER_ACCEPTS.values()) else []
    for role in (Role.PLAYER, Role.SERVER, Role.OPERATOR):
        if any(frame is kind for _, frame in ENDPOINT_TRANSITIONS[role]):
            accepting.append(role.value)
    assert vector["decoded_by"] == accepting


@pytest.mark.parametrize("vector", load("headers.json", "headers"))
def test_header(vector: dict[str, Any]) -> None:
    number = FrameType[vector["type"]]
    expected = bytes.fromhex(vector["hex"])
    assert header(number, vector["link"], vector["code"]) == expected
    assert HEADER.unpack(expected) == (vector["version"], number, vector["code"], vector["link"])


@pytest.mark.parametrize("vector", load("player_ids.json", "player_ids"))
def test_player_id(vector: dict[str, Any]) -> None:
    expected = bytes.fromhex(vector["hex"])
    assert encode_player_id(vector["player_id"]) == expected
    player_id = decode_player_id(expected)
    assert player_id == vector["player_id"]
    assert type(player_id) is type(vector["player_id"])


@pytest.mark.parametrize("vector", load("control.json", "frames"))
def test_control_frame(vector: dict[str, Any]) -> None:
    frame = control_frame(vector)
    data = bytes.fromhex(vector["hex"])
    assert control.decode(data) == frame
    if not vector.get("decode_only"):
        assert control.encode(frame) == data


def test_every_control_frame_has_a_vector_with_all_its_fields() -> None:
    seen = {
        param.values[0]["type"]: set(param.values[0]["fields"]) for param in load("control.json", "frames")
    }
    assert seen == {
        kind.name: {field.name for field in fields_of(frame)} for kind, frame in FRAME_CLASSES.items()
    }


@pytest.mark.parametrize(
    ("kind", "field", "choices"),
    [
        ("HELLO", "role", Role),
        ("REJECT", "code", RejectCode),
        ("QUERY", "subject", control.Subject),
        ("ORDER", "what", control.What),
    ],
)
def test_every_choice_of_a_field_has_a_vector(kind: str, field: str, choices: type[Enum]) -> None:
    vectors = [param.values[0] for param in load("control.json", "frames")]
    written = {vector["fields"][field] for vector in vectors if vector["type"] == kind}
    assert written == {choice.value for choice in choices}


def test_every_frame_type_has_a_header() -> None:
    written = {param.values[0]["type"] for param in load("headers.json", "headers")}
    assert written == {kind.name for kind in FrameType}


@pytest.mark.parametrize("vector", load("envelopes.json", "envelopes"))
def test_envelope(vector: dict[str, Any]) -> None:
    envelope = plain(vector["envelope"])
    data = bytes.fromhex(vector["hex"])
    decoded = decode(join([data]), Limits())
    # Compare with repr: it keeps 1, 1.0 and True apart, and 0.0 and -0.0, and NaN equals NaN.
    assert repr(decoded.envelopes) == repr([envelope])
    assert decoded[1:] == ([], 0)
    if not vector.get("decode_only"):
        assert encode_envelope(envelope) == data


def test_every_error_code_has_a_vector() -> None:
    envelopes = [param.values[0]["envelope"] for param in load("envelopes.json", "envelopes")]
    assert {envelope[0] for envelope in envelopes} == {1, 2, 3, 4, 5}
    codes = {envelope[2] for envelope in envelopes if envelope[0] == 3}
    assert {code for code in codes if isinstance(code, int)} == set(Code)


@pytest.mark.parametrize("vector", load("data.json", "frames"))
def test_data_frame(vector: dict[str, Any]) -> None:
    envelopes = plain(vector["envelopes"])
    data = bytes.fromhex(vector["hex"])
    head = header(FrameType[vector["type"]], vector["link"])
    assert head + join([encode_envelope(envelope) for envelope in envelopes]) == data
    assert decode(data[HEADER_BYTES:], Limits()) == (envelopes, [], 0)


@pytest.mark.parametrize("vector", load("bounces.json", "frames"))
def test_bounce(vector: dict[str, Any]) -> None:
    bounced = bytes.fromhex(vector["bounced"])
    data = bytes.fromhex(vector["hex"])
    assert bounce(Code[vector["code"]], bounced) == data
    assert struct.unpack("!BBHI", data[:8]) == (1, 18, Code[vector["code"]], 0)
    assert data[8:] == bounced


@pytest.mark.parametrize("vector", load("bundles.json", "frames"))
def test_bundle(vector: dict[str, Any]) -> None:
    pairs = [(bytes.fromhex(one["encoded_id"]), bytes.fromhex(one["frame"])) for one in vector["carried"]]
    data = bytes.fromhex(vector["hex"])
    assert bundle(pairs) == data
    assert unbundle(data) == [part for pair in pairs for part in pair]


@pytest.mark.parametrize("vector", load("invalid.json", "frames"))
def test_invalid_frame(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        control.decode(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", load("invalid.json", "player_ids"))
def test_invalid_player_id(vector: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decode_player_id(bytes.fromhex(vector["hex"]))


@pytest.mark.parametrize("vector", load("invalid.json", "bodies"))
def test_invalid_body(vector: dict[str, Any]) -> None:
    decoded = decode(bytes.fromhex(vector["hex"]), Limits())
    assert decoded.envelopes == [[4, 9]] * vector["sound"]
    assert [[bad.type, bad.id] for bad in decoded.unreadable] == vector["unreadable"]
    assert all(bad.reason for bad in decoded.unreadable)
    assert decoded.lost_bytes == vector["lost_bytes"]
