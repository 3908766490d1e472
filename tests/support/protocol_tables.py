"""The tables of docs/protocol.md, and docs/protocol.json, which has the same for programs.

    python tests/support/protocol_tables.py        write docs/protocol.json anew, from the page

Tests compare both with the code.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protocol.md"
JSON = ROOT / "docs" / "protocol.json"
DOCUMENT = PAGE.read_text(encoding="utf-8")

CONTROL_MAPS = (
    *(
        "HELLO",
        "WELCOME",
        "REJECT",
        "BYE",
        "SERVER_DOWN",
        "DRAINING",
        "KEYS",
        "QUERY",
        "ORDER",
        "ANSWER",
        "REPORT",
        "WATCH",
    ),
)
ABOUT = (
    "The tables of docs/protocol.md for programs. A test compares them with the page and with the code. "
    "A default of `required` means that the field must be there. A limit of null means none."
)


def section(title: str) -> str:
    """Return the text between a heading and the next one."""
    text: str
    [text] = re.findall(rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)", DOCUMENT, re.MULTILINE | re.DOTALL)
    return text


def tables(title: str) -> list[list[dict[str, str]]]:
    """Return the tables of a section: rows by the names of the columns, without code marks."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", section(title), re.MULTILINE):
        head, _, *rows = [
            [cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in block.splitlines()
        ]
        assert all(len(row) == len(head) for row in rows), block
        found.append([dict(zip(head, row, strict=True)) for row in rows])
    return found


def names(cell: str) -> list[str]:
    """Return the words of a cell that lists some."""
    return [name.strip() for name in cell.split(",")]


def _numbered(title: str, name: str, *columns: str) -> list[dict[str, Any]]:
    return [
        {"number": int(row["number"]), "name": row[name], **{column: row[column] for column in columns}}
        for row in tables(title)[0]
    ]


def _plain(text: str) -> str:
    """Return the text of a cell without marks of Markdown."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "")


def from_page() -> dict[str, Any]:
    """Return what docs/protocol.json must have."""
    protocol_limits, endpoint_limits = tables("Limits")
    return {
        "about": ABOUT,
        "version": int(tables("Frames")[0][0]["value"]),
        "header": [
            {"offset": int(row["offset"]), "type": row["type"], "field": row["field"]}
            for row in tables("Frames")[0]
        ],
        "frame_types": [
            {"sent_by": names(row.pop("sent by")), **row, "to": names(row["to"])}
            for row in _numbered("Frame types", "type", "sent by", "to", "body")
        ],
        "broker_accepts": {row["from"]: names(row["types"]) for row in tables("What the broker accepts")[0]},
        "control_fields": {
            title: [
                {"field": row["field"], "type": _plain(row["type"]), "default": _plain(row["default"])}
                for row in tables(title)[0]
            ]
            for title in CONTROL_MAPS
        },
        "envelope_types": [
            {**row, "array": row["array"].strip("[]").split(", ")}
            for row in _numbered("Envelopes", "type", "array")
        ],
        "envelope_fields": [
            {"field": row["field"], "type": _plain(row["type"])} for row in tables("Envelopes")[1]
        ],
        "context_names": [
            {"name": row["name"], "value": row["value"]} for row in tables("The context of a call")[0]
        ],
        "executed": _numbered("Executed", "name"),
        "error_codes": _numbered("Error codes", "name", "executed"),
        "bounce_codes": [row["code"] for row in tables("BOUNCE")[0]],
        "bounced_envelopes": {row["envelope"]: row["what the sender does"] for row in tables("BOUNCE")[1]},
        "reject_codes": [
            {"try_again": row.pop("worth another try"), **row}
            for row in _numbered("Reject codes", "name", "worth another try")
        ],
        "endpoint_states": [
            {
                "state": row["state"],
                "frame": row["frame"],
                "roles": names(row["roles"]),
                "next": row["next state"],
            }
            for row in tables("A session as the endpoint sees it")[0]
        ],
        "limits": {row["name"]: int(row["value"]) for row in protocol_limits},
        "endpoint_limits": {
            row["name"]: None if row["default"] == "none" else int(row["default"]) for row in endpoint_limits
        },
    }


def write() -> str:
    """Return the text of docs/protocol.json: an item of a list on a line of its own."""
    parts = []
    for name, value in from_page().items():
        if isinstance(value, list):
            items = ",\n".join(f"    {json.dumps(item)}" for item in value)
            parts.append(f"  {json.dumps(name)}: [\n{items}\n  ]")
        elif isinstance(value, dict):
            items = ",\n".join(f"    {json.dumps(key)}: {json.dumps(item)}" for key, item in value.items())
            parts.append(f"  {json.dumps(name)}: {{\n{items}\n  }}")
        else:
            parts.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    JSON.write_text(write(), encoding="utf-8")
