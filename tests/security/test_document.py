"""docs/security.md names all tests of this folder, all fields of the access list and all counters."""

from __future__ import annotations

import re

import pytest
from security.yard import REFUSALS
from support.harness import ROOT

from ringback_broker.admission.access_list import AccessError, AccessList

DOCUMENT = (ROOT / "docs" / "security.md").read_text()
ATTACKS = "".join(
    path.read_text()
    for path in (ROOT / "tests" / "security").glob("test_*.py")
    if path.name not in ("test_document.py", "test_commands.py")
)
NAMED = set(re.findall(r"`(test_\w+)`", DOCUMENT))


def test_every_attack_is_named() -> None:
    assert set(re.findall(r"^def (test_\w+)\(", ATTACKS, re.M)) - NAMED == set()


@pytest.mark.parametrize("table", ["key", "token_key"])
def test_the_document_has_all_fields_of_the_list(table: str) -> None:
    with pytest.raises(AccessError) as caught:
        AccessList.parse(f"[[{table}]]\nnothing = 1\n")
    fields = str(caught.value).partition("the names are ")[2].split(", ")
    rows = re.findall(rf"^\| `\[\[{table}\]\]` \| `(\w+)` \|", DOCUMENT, re.M)
    assert sorted(rows) == fields


def test_the_document_has_all_counters_of_refusals() -> None:
    assert [name for name in REFUSALS if f"`{name}`" not in DOCUMENT] == []
