"""The decisions are complete, and the documents name only files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_a_decision_has_one_title() -> None:
    """The title is the same in the index, in the page and in the name of the file."""
    for number, file, title in index():
        assert headings(DECISIONS / file, "#") == [f"{int(number)}. {title}"]
        slug = "-".join(re.findall(r"[a-z0-9]+", title.lower()))
        assert file == f"{number}-{slug}.md"


def test_a_decision_has_all_sections() -> None:
    for page in [*PAGES, DECISIONS / "template.md"]:
        found = headings(page, "##")
        assert found in (SECTIONS, [*SECTIONS, "Figures"]), page.name
        for section in re.split(r"^## .+$", page.read_text(), flags=re.M)[1:]:
            assert section.strip(), page.name


DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PATH = re.compile(
    r"(?<![\w./-])((?:sdk|broker|cli|tests|docs|bench|deploy|examples)/[\w./-]*\w|[A-Z]+\.md|Makefile)"
)


def without_links(page: Path) -> str:
    """Return the text of a page without the targets of its links. They are relative to the page."""
    return re.sub(r"\]\([^)]*\)", "]", page.read_text())


def test_the_documents_name_paths_that_exist() -> None:
    named = {(page.name, path) for page in DOCUMENTS for path in PATH.findall(without_links(page))}
    assert len(named) > 100
    assert [(page, path) for page, path in sorted(named) if not (ROOT / path).exists()] == []


def test_the_documents_name_tests_that_exist() -> None:
    code = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    existing = set(re.findall(r"def (test_\w+)\(", code))
    named = {
        (page.name, test) for page in DOCUMENTS for test in re.findall(r"`(test_\w+)`", page.read_text())
    }
    assert len(named) > 50
    assert [(page, test) for page, test in sorted(named) if test not in existing] == []


def test_each_link_leads_somewhere() -> None:
    for page in DOCUMENTS:
        for target in re.findall(r"\]\(([^)]+)\)", page.read_text()):
            if "://" in target:
                continue
            file, _, anchor = target.partition("#")
            linked = page.parent / file if file else page
            assert linked.exists(), (page.name, target)
            if anchor:
                titles = [re.sub(r"[^\w -]", "", title.lower()) for title in headings(linked, "#+")]
                assert anchor in [title.replace(" ", "-") for title in titles], (page.name, target)
