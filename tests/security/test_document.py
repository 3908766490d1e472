"""docs/security.md names tests that exist, and all tests of this folder, all fields and all counters."""

from __future__ import annotations

import re

import pytest
from security.yard import REFUSALS
from support.harness import ROOT

from ringback_broker.admission.access_list import AccessError, AccessList

DOCUMENT = (ROOT / "docs" / "security.md").read_text()
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
ATTACKS = "".join(
    text
    for path, text in TESTS.items()
    if path.parent.name == "security" and path.name not in ("test_document.py", "test_commands.py")
)
NAMED = sorted(set(re.findall(r"`(test_\w+)`", DOCUMENT)))


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_exists(name: str) -> None:
    assert any(f"def {name}(" in text for text in TESTS.values())


def test_every_attack_is_named() -> None:
    assert set(re.findall(r"^def (test_\w+)\(", ATTACKS, re.M)) - set(NAMED) == set()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.]+)`", DOCUMENT))))
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("table", ["key", "token_key"])
def test_the_document_has_all_fields_of_the_list(table: str) -> None:
    with pytest.raises(AccessError) as caught:
        AccessList.parse(f"[[{table}]]\nnothing = 1\n")
    fields = str(caught.value).partition("the names are ")[2].split(", ")
    rows = re.findall(rf"^\| `\[\[{table}\]\]` \| `(\w+)` \|", DOCUMENT, re.M)
    assert sorted(rows) == fields


def test_the_document_has_all_counters_of_refusals() -> None:
    assert [name for name in REFUSALS if f"`{name}`" not in DOCUMENT] == []
