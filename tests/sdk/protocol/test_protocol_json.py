"""docs/protocol.json agrees with the tables of docs/protocol.md and with the code."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from typing import Any, get_args

from support.protocol_tables import CONTROL_MAPS, JSON, write

from ringback.errors import ERROR_CLASSES, EXECUTED, Code, RejectCode
from ringback.protocol import control, envelopes, frames, limits
from ringback.protocol.frames import BROKER_ACCEPTS, ENDPOINT_TRANSITIONS, FrameType, Role, SessionState

FOUND: dict[str, Any] = json.loads(JSON.read_text(encoding="utf-8"))


def numbers(part: str) -> dict[int, str]:
    return {row["number"]: row["name"] for row in FOUND[part]}


def test_it_has_the_tables_of_the_page() -> None:
    assert JSON.read_text(encoding="utf-8") == write(), "run python tests/support/protocol_tables.py"


def test_numbers_are_those_of_the_code() -> None:
    assert FOUND["version"] == frames.VERSION
    sizes = {"u8": 1, "u16": 2, "u32": 4}
    assert sum(sizes[row["type"]] for row in FOUND["header"]) == frames.HEADER_BYTES
    assert numbers("frame_types") == {kind.value: kind.name for kind in FrameType}
    assert numbers("envelope_types") == {kind.value: kind.name for kind in envelopes.EnvelopeType}
    assert numbers("executed") == dict(enumerate(EXECUTED))
    assert numbers("error_codes") == {code.value: code.name for code in Code}
    assert numbers("reject_codes") == {code.value: code.name for code in RejectCode}
    for row in FOUND["error_codes"]:
        assert row["executed"] == ERROR_CLASSES[Code(row["number"])].default_executed


def test_fields_are_those_of_the_code() -> None:
    classes = {frame.type.name: frame for frame in get_args(control.ControlFrame)}
    bodies = {row["name"]: row["body"] for row in FOUND["frame_types"]}
    assert set(CONTROL_MAPS) == {kind for kind, body in bodies.items() if body.endswith("map")}
    for title in CONTROL_MAPS:
        found, own = FOUND["control_fields"][title], fields(classes[title])
        assert [row["field"] for row in found] == [field.name for field in own]
        for row, field in zip(found, own, strict=True):
            assert row["default"] != "required" or field.default is MISSING, (title, row)
    named = {row["field"] for row in FOUND["envelope_fields"]}
    assert named == {name for row in FOUND["envelope_types"] for name in row["array"][1:]}


def test_states_are_those_of_the_code() -> None:
    accepts = {
        None if sender == "before HELLO" else Role(sender): {FrameType[name] for name in kinds}
        for sender, kinds in FOUND["broker_accepts"].items()
    }
    assert accepts == {role: set(kinds) for role, kinds in BROKER_ACCEPTS.items()}
    found: dict[Role, Any] = {role: {} for role in Role}
    for row in FOUND["endpoint_states"]:
        for role in row["roles"]:
            found[Role(role)][SessionState(row["state"]), FrameType[row["frame"]]] = SessionState(row["next"])
    assert found == ENDPOINT_TRANSITIONS


def test_limits_are_those_of_the_code() -> None:
    for name, value in FOUND["limits"].items():
        [own] = {vars(module)[name] for module in (frames, limits, envelopes) if name in vars(module)}
        assert value == own, name
    assert FOUND["endpoint_limits"] == {field.name: field.default for field in fields(limits.Limits)}


def test_the_broker_bounces_with_these_codes_alone() -> None:
    from ringback_broker.operations.counters import BrokerCounters

    counted = {field.name for field in fields(BrokerCounters) if field.name.startswith("bounced_")}
    assert {f"bounced_{code.lower()}" for code in FOUND["bounce_codes"]} == counted
