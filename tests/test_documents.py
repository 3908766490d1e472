"""The documents for contributors are complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.harness import ROOT

DECISIONS = ROOT / "docs" / "decisions"
PAGES = sorted(DECISIONS.glob("[0-9]*.md"))
SECTIONS = ["Context", "Decision", "Consequences"]


def index() -> list[tuple[str, str, str]]:
    """Return the number, the file name and the title in each line of the index of decisions."""
    line = re.compile(r"^\| \[(\d{4})\]\((\S+)\) \| (.+?) \| .+ \|$", re.M)
    return line.findall((DECISIONS / "README.md").read_text())


def headings(page: Path, level: str) -> list[str]:
    """Return the headings of one level, `#` or `##`, in a page."""
    return re.findall(rf"^{level} (.+)$", page.read_text(), re.M)


def test_the_index_names_each_decision() -> None:
    assert [file for _, file, _ in index()] == [page.name for page in PAGES]
    assert [int(number) for number, _, _ in index()] == list(range(1, len(PAGES) + 1))


@pytest.mark.parametrize(("number", "file", "title"), index())
def test_a_decision_has_one_title(number: str, file: str, title: str) -> None:
    """The title is the same in the index, in the page and in the name of the file."""
    assert headings(DECISIONS / file, "#") == [f"{int(number)}. {title}"]
    slug = "-".join(re.findall(r"[a-z0-9]+", title.lower()))
    assert file == f"{number}-{slug}.md"


@pytest.mark.parametrize("page", [*PAGES, DECISIONS / "template.md"], ids=lambda page: page.name)
def test_a_decision_has_all_sections(page: Path) -> None:
    found = headings(page, "##")
    assert found in (SECTIONS, [*SECTIONS, "Figures"])
    for section in re.split(r"^## .+$", page.read_text(), flags=re.M)[1:]:
        assert section.strip()
