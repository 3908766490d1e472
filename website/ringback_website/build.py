"""Builds the site: stages the pages, has Zensical render them, and checks the result."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ringback_website import api, checks, commands, tables
from ringback_website.policy import add_policy
from ringback_website.repository import NO_PAGES, ROOT, TOP_PAGES, Repository, file_page
from ringback_website.short_code import keep_whole_in

WEBSITE = ROOT / "website"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WARNING = re.compile(r"^(?:warning|error|griffe|mkdocstrings|mkdocs_autorefs)\b", re.I | re.M)
_GENERATED = {
    "reference/commands.md": commands.markdown,
    "reference/settings.md": tables.settings,
    "reference/errors.md": tables.error_codes,
}


class BuildFailed(Exception):
    """The site cannot be built. The message has a line for each problem, with the page that has it."""


def build(target: Path, repository: Repository | None = None) -> Path:
    """Build the site below a folder, and return the folder of its pages.

    Args:
        repository: where the pages are; None: this repository.

    Raises:
        BuildFailed: something is wrong in the pages, or with the site that came of them.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    try:
        stage(target / "pages", repository or Repository())
    except ValueError as error:
        raise BuildFailed(str(error)) from None
    shutil.copytree(WEBSITE / "assets", target / "pages" / "assets")
    shutil.copy(WEBSITE / "zensical.toml", target)
    _render(target)
    site = target / "site"
    if found := list(checks.problems(site)):
        raise BuildFailed("\n".join(found))
    for page in site.rglob("*.html"):
        keep_whole_in(page)
        add_policy(page)
    return site


def stage(pages: Path, repository: Repository) -> None:
    """Write all pages of the site, in Markdown, with links that work there.

    Raises:
        ValueError: a link in a page leads nowhere.
    """
    texts = {name: make() for name, make in _GENERATED.items()}
    texts |= {f"reference/api/{page.file}": api.markdown(page) for page in api.PAGES}
    for path in (*TOP_PAGES, *repository.below("docs")):
        name = repository.on_site(path)
        if repository.is_page(path):
            texts[name] = repository.staged(path, (repository.root / path).read_text("utf-8"))
        elif path not in NO_PAGES:
            _target(pages, name).write_bytes((repository.root / path).read_bytes())
    texts["promise.md"] = _promise(texts["readme.md"])
    texts["cli.md"] = _with_generated(texts["cli.md"])
    texts |= _files(repository)
    for name, text in texts.items():
        _target(pages, name).write_text(text, "utf-8")


def _target(pages: Path, name: str) -> Path:
    path = pages / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _files(repository: Repository) -> dict[str, str]:
    """Return the pages of the files that pages link to. The page of a folder links to more of them."""
    made: dict[str, str] = {}
    while missing := sorted(path for path in repository.linked if repository.on_site(path) not in made):
        for path in missing:
            made[repository.on_site(path)] = file_page(repository, path)
    return made


def _render(target: Path) -> None:
    """Have Zensical render the pages. mkdocstrings reads the sources, not what may be installed."""
    sources = [ROOT / "sdk", ROOT / "broker", WEBSITE]
    ended = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", "zensical.toml"],
        cwd=target,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources))},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    said = _COLOUR.sub("", ended.stdout).partition("Traceback (most recent call last)")[0].strip()
    if ended.returncode or _WARNING.search(said):
        raise BuildFailed(said)


def _promise(readme: str) -> str:
    """Return the section of the README that says what ringback promises, as a page of its own."""
    [section] = re.findall(r"^## The promise\n(.*?)(?=^## )", readme, re.M | re.S)
    return f"# The promise\n{section}"


def _with_generated(text: str) -> str:
    """Return the page of the command line with links in place of what the generated pages have in full."""
    text, options = re.subn(
        r"^## (ringback [\w -]+)\n((?:(?!^## ).*\n)*?)^(?:Other o|O)ptions: `--(?:.*\n)+?\n",
        lambda found: (
            f"## {found[1]}\n{found[2]}[All options](reference/commands.md#{found[1].replace(' ', '-')}).\n\n"
        ),
        text,
        flags=re.M,
    )
    text, settings = re.subn(
        r"^\| setting \| option \|.*\n(?:\|.*\n)+",
        "[All settings](reference/settings.md), with their options and variables.\n",
        text,
        flags=re.M,
    )
    if not options or settings != 1:
        raise ValueError("docs/cli.md: the lists of options or the table of settings are not where they were")
    return text
