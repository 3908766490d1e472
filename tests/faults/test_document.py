"""docs/reliability.md names only tests, files and folders that exist."""

from __future__ import annotations

import re

import pytest
from support.harness import ROOT

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text()
TESTS = {path: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(test_\w+)`", DOCUMENT))))
def test_a_named_test_exists(name: str) -> None:
    assert any(f"def {name}(" in text for text in TESTS.values())


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`(tests/[\w/.]+)`", DOCUMENT))))
def test_a_named_file_exists(path: str) -> None:
    assert (ROOT / path).exists()
