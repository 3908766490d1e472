"""Where each file of the repository is on the site, and how links between pages change for that.

In the repository, pages link to each other and to other files by relative paths. On the site, each page of
`docs/` stays where it is, below `docs/`. A file of another folder that some page links to gets a page of its
own, which shows it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]

TOP_PAGES = {
    "README.md": "readme.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "reporting.md",
    "CHANGELOG.md": "changelog.md",
}
"""The pages outside `docs/` that are pages of the site too, and their names there."""

NO_PAGES = {"docs/decisions/template.md"}
"""Files of `docs/` that no reader looks for. The site shows them as it shows files of other folders."""

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_LINK = re.compile(r"(`+[^`]*?`+(?!`))|(?<=\]\()([^()\s]+)(?=\))")
"""A link's target. Code in backticks comes first, because it may look like a link."""


class Repository:
    """The files that git knows, and the pages that links need beside those of `docs/`."""

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root
        self.linked: set[str] = set()
        """The files and folders outside the pages that pages link to."""

    @cached_property
    def files(self) -> list[str]:
        """All files but those that git ignores: a key that somebody made here must not get on the site."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - any git will do
            cwd=self.root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return sorted(name for name in set(listed.split("\0")) if name and (self.root / name).is_file())

    def below(self, folder: str) -> list[str]:
        """Return the files of a folder and of all folders in it."""
        return [name for name in self.files if name.startswith(f"{folder}/")]

    def is_page(self, path: str) -> bool:
        """Return whether a file is a page of the site as it is."""
        return path in TOP_PAGES or (
            path.startswith("docs/") and path.endswith(".md") and path not in NO_PAGES
        )

    def on_site(self, path: str) -> str:
        """Return the file of the site for a file or folder of the repository: a page, or data.

        Raises:
            ValueError: there is no such file or folder, or git ignores it.
        """
        if path in TOP_PAGES:
            return TOP_PAGES[path]
        if f"{path}/README.md" in self.files:
            return self.on_site(f"{path}/README.md")
        if path not in self.files and not self.below(path):
            raise ValueError("no such file in the repository")
        if path.startswith("docs/") and path in self.files and path not in NO_PAGES:
            return path.removeprefix("docs/")
        self.linked.add(path)
        return f"files/{path}.md" if path in self.files else f"files/{path}/index.md"

    def staged(self, path: str, text: str) -> str:
        """Return the text of a page with links that work on the site.

        Raises:
            ValueError: a link leads nowhere.
        """
        here = PurePosixPath(path).parent

        def moved(target: str) -> str:
            file, mark, anchor = target.partition("#")
            if not file or re.match(r"[a-z]+:", file):
                return target
            found = os.path.normpath(here / file)
            try:
                return relative(self.on_site(path), self.on_site(found)) + mark + anchor
            except ValueError as error:
                raise ValueError(f"{path}: the link to {target!r} leads nowhere: {error}") from None

        return with_links(indented(text), moved)


def relative(page: str, target: str) -> str:
    """Return the path from a page of the site to another file of it."""
    return os.path.relpath(target, PurePosixPath(page).parent)


def with_links(text: str, change: Callable[[str], str]) -> str:
    """Return a page with the target of each link replaced by what `change` returns. Code stays as it is."""
    # Code in backticks may go on in the next line, so whole pieces of a page are searched.
    return "".join(
        piece if is_code else _LINK.sub(lambda found: found[1] or change(found[2]), piece)
        for is_code, piece in pieces(text)
    )


def indented(text: str) -> str:
    """Return a page with everything below a numbered item indented by 4, as Python-Markdown wants it.

    CommonMark and people indent it as far as the text of the item.
    """
    width, lines = 0, list[str]()
    for line in text.splitlines(keepends=True):
        if found := re.match(r"\d+\. +", line):
            width = len(found[0])
        elif line.strip():
            width = width if line.startswith(" " * width) else 0
            line = " " * (4 - width) + line if width else line
        lines.append(line)
    return "".join(lines)


def pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Yield the pieces of a page: those within fences with True, those between them with False."""
    fence, lines = "", list[str]()
    for line in text.splitlines(keepends=True):
        found = _FENCE.match(line)
        if found and not fence:
            yield False, "".join(lines)
            fence, lines = found[1], [line]
        elif found and found[1].startswith(fence) and line.strip() == found[1]:
            yield True, "".join([*lines, line])
            fence, lines = "", []
        else:
            lines.append(line)
    yield bool(fence), "".join(lines)


def file_page(repository: Repository, path: str) -> str:
    """Return the page that shows a file, or lists the files of a folder."""
    if path in repository.files:
        text = (repository.root / path).read_text("utf-8")
        fence = "`" * (2 + max(1, *map(len, re.findall("`+", text) or [""])))
        return f"# {path}\n\n{fence}{language(path)}\n{text.rstrip()}\n{fence}\n"
    page = repository.on_site(path)
    rows = [
        f"- [{name.removeprefix(path + '/')}]({relative(page, repository.on_site(name))})"
        for name in repository.below(path)
    ]
    return f"# {path}\n\nThe files of this folder:\n\n" + "\n".join(rows) + "\n"


def language(path: str) -> str:
    """Return the name that the highlighter has for the language of a file."""
    name = PurePosixPath(path)
    if name.name == "Dockerfile":
        return "docker"
    known = {".service": "ini", ".md": "markdown", ".py": "python", ".rules": "yaml"}
    plain = {".yaml", ".json", ".toml", ".sh"}
    return known.get(name.suffix, name.suffix[1:] if name.suffix in plain else "text")
