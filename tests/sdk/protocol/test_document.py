"""docs/protocol.md agrees with the code: its tables are read and compared."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from typing import get_args

import pytest
from support.protocol_tables import DOCUMENT, ROOT, section, tables

from ringback.errors import ERROR_CLASSES, EXECUTED, Code, RejectCode
from ringback.protocol import contexts, control, envelopes, frames, limits
from ringback.protocol.frames import BROKER_ACCEPTS, ENDPOINT_TRANSITIONS, FrameType, Role, SessionState


def numbers(table: list[dict[str, str]], column: str = "name") -> dict[int, str]:
    assert len({row["number"] for row in table}) == len(table)
    return {int(row["number"]): row[column] for row in table}


def names(cell: str) -> set[str]:
    return {name.strip() for name in cell.split(",")}


def test_header() -> None:
    [table] = tables("Frames")
    sizes = {"u8": 1, "u16": 2, "u32": 4}
    offset = 0
    for row in table:
        assert int(row["offset"]) == offset
        offset += sizes[row["type"]]
    assert offset == frames.HEADER_BYTES == frames.HEADER.size
    assert table[0]["value"] == str(frames.VERSION)
    assert frames.SUPPORTED_VERSIONS == (frames.VERSION,)


def test_frame_types() -> None:
    [table] = tables("Frame types")
    assert numbers(table, "type") == {kind.value: kind.name for kind in FrameType}
    senders = {"endpoint": set(Role), "operator": {Role.OPERATOR}, "server": {Role.SERVER}}
    for row in table:
        written = {role for name in names(row["sent by"]) for role in senders.get(name, set())}
        kind = FrameType[row["type"]]
        accepted = {role for role in Role if kind in BROKER_ACCEPTS[role]}
        assert written == (set(Role) if kind is FrameType.HELLO else accepted), row


def test_roles() -> None:
    [table] = tables("Who talks to whom")
    assert {row["role"] for row in table} == set(Role)


def test_what_the_broker_accepts() -> None:
    [table] = tables("What the broker accepts")
    written = {row["from"]: names(row["types"]) for row in table}
    assert written == {
        "before HELLO" if role is None else role.value: {kind.name for kind in kinds}
        for role, kinds in BROKER_ACCEPTS.items()
    }


def test_states_of_an_endpoint() -> None:
    [table] = tables("A session as the endpoint sees it")
    written: dict[Role, dict[tuple[SessionState, FrameType], SessionState]] = {role: {} for role in Role}
    for row in table:
        for role in names(row["roles"]):
            key = SessionState(row["state"]), FrameType[row["frame"]]
            assert key not in written[Role(role)]
            written[Role(role)][key] = SessionState(row["next state"])
    assert written == ENDPOINT_TRANSITIONS


MAPS = [
    frame
    for frame in get_args(control.ControlFrame)
    if fields(frame) and frame not in (control.Ping, control.Pong, control.Joined, control.Left)
]


@pytest.mark.parametrize("frame", MAPS, ids=lambda frame: frame.__name__)
def test_fields_of_a_control_frame(frame: type[control.ControlFrame]) -> None:
    table = tables(frame.type.name)[0]
    assert [row["field"] for row in table] == [field.name for field in fields(frame)]
    for row, field in zip(table, fields(frame), strict=True):
        # The encoder leaves out None, so a required field that is None is absent too.
        if row["default"] == "required":
            assert field.default is MISSING, field.name


def test_choices_in_control_frames() -> None:
    assert re.findall(r"`(\w+)`", section("HELLO").split("`role` | str")[1].split("\n")[0]) == list(Role)
    [first, second] = tables("ANSWER")
    assert [row["subject"] for row in second] == list(control.Subject)
    assert first[0]["field"] == "id"
    assert re.findall(r"`(\w+)`:", section("ORDER").split("`what` | str")[1].split("\n")[0]) == list(
        control.What
    )


def test_envelope_types() -> None:
    table = tables("Envelopes")[0]
    assert numbers(table, "type") == {kind.value: kind.name for kind in envelopes.EnvelopeType}
    written = {name for row in tables("Envelopes")[1] for name in [row["field"]]}
    used = {name.strip() for row in table for name in row["array"].strip("[]").split(",")[1:]}
    assert written == used


def test_names_in_the_context() -> None:
    names = {value for name, value in vars(contexts).items() if type(value) is str and name.isupper()}
    assert {row["name"] for row in tables("The context of a call")[0]} == names


def test_executed() -> None:
    [table] = tables("Executed")
    assert numbers(table) == dict(enumerate(EXECUTED))


def test_error_codes() -> None:
    [table] = tables("Error codes")
    assert numbers(table) == {code.value: code.name for code in Code}
    assert {row["name"]: row["executed"] for row in table} == {
        code.name: error.default_executed for code, error in ERROR_CLASSES.items()
    }


def test_codes_of_a_bounce() -> None:
    assert {row["code"] for row in tables("BOUNCE")[0]} <= set(Code.__members__)


def test_reject_codes() -> None:
    [table] = tables("Reject codes")
    assert numbers(table) == {code.value: code.name for code in RejectCode}


def test_limits_of_the_protocol() -> None:
    written = {row["name"]: int(row["value"]) for row in tables("Limits")[0]}
    constants = {
        name: value
        for module in (frames, limits, envelopes)
        for name, value in vars(module).items()
        if re.match(r"MAX_|BATCH_|BUNDLE_F|IDS_|TICKET_|HEADER_BYTES", name)
    }
    assert written == constants


def test_limits_of_an_endpoint() -> None:
    written = {row["name"]: row["default"] for row in tables("Limits")[1]}
    assert written == {
        field.name: "none" if field.default is None else str(field.default) for field in fields(limits.Limits)
    }


def test_numbers_in_the_text() -> None:
    assert f"| `MAXMSGSIZE` | {limits.MAX_FRAME_BYTES} | {limits.MAX_FRAME_BYTES} |" in DOCUMENT
    text = " ".join(section("DATA and RELAY").split())
    assert f"array of 1 to {limits.MAX_ENVELOPES} envelopes" in text
    assert f"new frame at {limits.BATCH_ENVELOPES} envelopes or {limits.BATCH_BYTES} bytes" in text
    assert f"at most {limits.MAX_FRAME_BYTES - frames.HEADER_BYTES} bytes" in text
    assert f"at most {limits.MAX_ENVELOPE_BYTES}." in text


def vectors(file: str) -> dict[str, list[dict[str, str]]]:
    loaded: dict[str, list[dict[str, str]]] = json.loads(
        (ROOT / "tests" / "vectors" / file).read_text(encoding="utf-8")
    )
    return loaded


def test_bytes_of_the_example_are_vectors() -> None:
    known = {
        vector["hex"]
        for file in ("control.json", "data.json", "bounces.json")
        for vector in vectors(file)["frames"]
    }
    examples = re.findall(r"```hex\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(examples) == 6
    for example in examples:
        # A remark follows three spaces.
        digits = "".join(line.split("   ")[0] for line in example.splitlines())
        assert digits.replace(" ", "") in known, example


def test_files_of_vectors() -> None:
    [table] = tables("Test vectors")
    written = {row["file"]: {name.strip("` ") for name in row["list"].split(",")} for row in table}
    assert written == {
        path.name: set(vectors(path.name)) - {"about"} for path in (ROOT / "tests" / "vectors").glob("*.json")
    }


def test_links_inside_the_document() -> None:
    anchors = {
        re.sub(r"[^\w -]", "", title).lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", DOCUMENT, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", DOCUMENT)) <= anchors
