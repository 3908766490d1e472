"""What must hold for the site that was built. The generator checks the links in pages, but not all of this.

- Each link within the site leads to a file and to an anchor in it. Pages that are generated count too.
- Each page is in the navigation.
- A browser loads nothing from elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""What a browser loads by itself, by tag and attribute."""


SECTION = re.compile(r"(?:Args|Attributes|Raises|Returns|Yields):\s+\S")
"""A section of a docstring that is still text. The generator makes a title and a list of each."""


class Page(HTMLParser):
    """What one page has: anchors, links, links of the navigation, and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.navigation: list[str] = []
        self.loaded: list[str] = []
        self.paragraphs: list[str] = []
        self._in_navigation = 0
        self._paragraph: list[str] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take down an element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "nav" and (self._in_navigation or "md-nav--primary" in values.get("class", "")):
            self._in_navigation += 1
        if tag == "a" and "href" in values:
            (self.navigation if self._in_navigation else self.links).append(values["href"])
        if tag == "p":
            self._paragraph = []
        self.loaded += [
            values[name]
            for at, name in LOADED
            if at == tag and name in values and values.get("rel") not in ("canonical", "prev", "next")
        ]

    def handle_data(self, data: str) -> None:
        """Take down text."""
        if self._paragraph is not None:
            self._paragraph.append(data)

    def handle_endtag(self, tag: str) -> None:
        """Take down the end of an element."""
        if tag == "nav" and self._in_navigation:
            self._in_navigation -= 1
        if tag == "p" and self._paragraph is not None:
            self.paragraphs.append("".join(self._paragraph))
            self._paragraph = None


def problems(site: Path) -> Iterator[str]:
    """Yield what is wrong with a site, a line for each problem."""
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = str(path.relative_to(site))
        if path != site / "404.html":  # it is shown at any address, so its links are absolute
            for link in (*page.links, *page.navigation):
                yield from (f"{name}: {problem}" for problem in _of_link(site, path, link, pages))
        for url in page.loaded:
            if urlsplit(url).netloc:
                yield f"{name}: it loads {url}"
        for paragraph in page.paragraphs:
            if re.search(r"^(?:[-*] |[0-9]{1,2}\. |```|\|.*\|$)", paragraph, re.M) or "](" in paragraph:
                text = repr(paragraph[:80])
                yield f"{name}: this is not rendered: {text}; an empty line belongs before a list or table"
            if SECTION.match(paragraph):
                yield f"{name}: this section of a docstring is not read: {paragraph[:80]!r}"
    home = pages[site / "index.html"]
    listed = {_target(site, site / "index.html", link) for link in home.navigation}
    for path in pages:
        if path not in listed and path.name != "404.html":
            yield f"{path.relative_to(site)}: it is not in the navigation: add it to docs/.nav.yml"
    for path in site.rglob("*.css"):
        for url in re.findall(
            r"""url\(["']?(?!data:)([^)"']+)|@import\s+["']([^"']+)""", path.read_text("utf-8")
        ):
            if urlsplit("".join(url)).netloc:
                yield f"{path.relative_to(site)}: it loads {''.join(url)}"


def _target(site: Path, page: Path, link: str) -> Path:
    """Return the file that a link leads to."""
    path = unquote(urlsplit(link).path)
    if not path:
        return page
    target = Path(os.path.normpath(site / path[1:] if path[0] == "/" else page.parent / path))
    return target / "index.html" if target.is_dir() else target


def _of_link(site: Path, page: Path, link: str, pages: dict[Path, Page]) -> Iterator[str]:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return
    target = _target(site, page, link)
    if not target.is_file():
        yield f"the link to {link!r} leads nowhere"
    elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].anchors:
        yield f"the link to {link!r} leads to no such anchor"
