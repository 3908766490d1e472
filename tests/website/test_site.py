"""The documentation site builds without a warning and without a network, and lacks no page and no name."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module
from pathlib import Path
from threading import Thread

import pytest
from support.browser import CHROMIUM, DRIVER, NARROW, WIDE, Browser, browser
from support.harness import ENVIRONMENT, PATIENCE_S, ROOT, BrokerProcess, Process
from support.pages import alike

import ringback
import ringback.aio
from ringback_broker.settings.schema import SETTINGS
from ringback_cli.app import application
from ringback_website.build import BuildFailed, build
from ringback_website.checks import Page, problems
from ringback_website.commands import commands
from ringback_website.repository import TOP_PAGES, Repository, indented, with_links
from ringback_website.short_code import LONGEST, keep_whole

DOCUMENTS = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "examples").glob("*.py")),
]
INDEX = (ROOT / "docs" / "index.md").read_text()
BUILDS_WITHIN_S = 240.0
"""A build takes some seconds of one core. Many tests may run at the same time."""

pytestmark = pytest.mark.timeout(2 * BUILDS_WITHIN_S)

NO_NETWORK = ("unshare", "--user", "--map-root-user", "--net")
"""Runs a command in a namespace whose only network is a loopback that is down."""


@cache
def no_network() -> tuple[str, ...]:
    """Return the command that takes the network away; nothing where the system does not let us."""
    if shutil.which("unshare") is None:
        return ()
    tried = subprocess.run([*NO_NETWORK, "true"], capture_output=True, check=False)
    return NO_NETWORK if tried.returncode == 0 else ()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site. The first process of a test run that asks for it builds it."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    target = shared / "website"
    with (shared / "website.state").open("a+") as state:
        flock(state, LOCK_EX)
        state.seek(0)
        if state.read() != "built":
            build_as_make_does(target)
            state.write("built")
    return target / "site"


def build_as_make_does(target: Path) -> None:
    """Build the site without a network."""
    built = subprocess.run(
        [*no_network(), sys.executable, "-m", "ringback_website", "--into", str(target)],
        env={**ENVIRONMENT, "PYTHONPATH": str(ROOT / "website")},
        capture_output=True,
        text=True,
        timeout=BUILDS_WITHIN_S,
        check=False,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, f"{target / 'site'}\n", "")


@pytest.fixture(scope="module")
def anchors(site: Path) -> set[str]:
    """Return all anchors of the reference of Python."""
    pages = (site / "reference" / "api").rglob("index.html")
    return {anchor for page in pages for anchor in Page(page.read_text()).anchors}


def test_each_page_of_the_repository_is_in_the_navigation(site: Path) -> None:
    listed = set(Page((site / "index.html").read_text()).navigation)
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert len(pages) > 80
    for page in pages:
        if page.name not in ("template.md", "index.md"):
            folder = page.parent if page.name == "README.md" else page.with_suffix("")
            assert f"{folder}/" in {link.removeprefix("./") for link in listed}, page
            assert (site / folder / "index.html").is_file()


def test_who_reads_on_comes_to_the_steps_of_the_tutorial_in_their_order(site: Path) -> None:
    steps = [path.stem for path in sorted((ROOT / "docs" / "tutorial").glob("[0-9]*.md"))]
    page, seen = site / "index.html", []
    for _ in range(1 + len(steps)):
        [following] = re.findall(r'href="([^"]*)"[^>]*md-footer__link--next', page.read_text())
        page = (page.parent / following / "index.html").resolve()
        seen.append(page.parent.relative_to(site.resolve()).as_posix())
    assert seen == ["tutorial", *(f"tutorial/{step}" for step in steps)]


def imported_names() -> set[tuple[str, str]]:
    """Return the modules and names that the documents and examples import from the SDK."""
    found = set()
    for document in DOCUMENTS:
        for module, names in re.findall(
            r"^ *from (ringback[\w.]*) import (\w.*)$", document.read_text(), re.M
        ):
            found |= {(module, name) for name in re.findall(r"\w+", names.partition("#")[0])}
    return {(module, name) for module, name in found if (module, name) != ("ringback", "tracing")}


def test_each_public_name_is_in_the_reference(anchors: set[str]) -> None:
    modules = ["ringback", "ringback.aio", "ringback.testing", "ringback.tokens", "ringback.tracing"]
    modules += ["ringback.credentials", "ringback_broker"]
    exported = {(module, name) for module in modules for name in import_module(module).__all__}
    plugin = "ringback.testing.plugin"
    exported |= {(plugin, name) for name in vars(import_module(plugin)) if name.startswith("ringback_")}
    assert len(exported) > 80
    assert sorted(f"{module}.{name}" for module, name in exported if f"{module}.{name}" not in anchors) == []


def test_each_name_that_the_documents_import_is_in_the_reference(anchors: set[str]) -> None:
    imported = {f"{module}.{name}" for module, name in imported_names()}
    assert {"ringback.Server", "ringback.aio.Player", "ringback.tokens.mint_token"} <= imported
    assert sorted(imported - anchors) == []


@pytest.mark.parametrize("module", [ringback, ringback.aio], ids=lambda module: module.__name__)
@pytest.mark.parametrize("kind", ["Server", "Player", "Operator", "Call", "CallGroup"])
def test_each_method_is_in_the_reference(anchors: set[str], module: object, kind: str) -> None:
    members = [
        name
        for name, member in inspect.getmembers(getattr(module, kind))
        if name[0] != "_" and (inspect.isfunction(member) or isinstance(member, property))
        if "Not for users." not in str(member.__doc__)
    ]
    assert len(members) >= 8
    path = f"{getattr(module, '__name__', '')}.{kind}"
    assert [name for name in members if f"{path}.{name}" not in anchors] == []


def test_each_command_and_setting_is_in_the_reference(site: Path) -> None:
    tree = application()
    known = [
        "ringback " + str(command.name or command.callback.__name__) for command in tree.registered_commands
    ]
    for group in tree.registered_groups:
        known += [
            f"ringback {group.name} {command.name or command.callback.__name__}"
            for command in group.typer_instance.registered_commands
        ]
    described = [words for words, _ in commands()]
    assert sorted(described) == sorted([*known, "ringback nodes"])
    found = Page((site / "reference" / "commands" / "index.html").read_text()).anchors
    assert [words for words in described if words.replace(" ", "-") not in found] == []
    found = Page((site / "reference" / "settings" / "index.html").read_text()).anchors
    assert [name for name in SETTINGS if name not in found] == []


def test_the_lists_of_options_in_the_repository_are_complete() -> None:
    """On the site, docs/cli.md has links to the generated page in place of these lists."""
    options = {
        words: {option for each in command.params for option in each.opts if option.startswith("--")}
        - {"--help"}
        for words, command in commands()
    }
    document = (ROOT / "docs" / "cli.md").read_text()
    checked = 0
    for section in re.split(r"^## ", document, flags=re.M)[1:]:
        words = section.partition("\n")[0]
        for listed in re.findall(r"^Options: ((?:.+\n)+)", section, re.M):
            for part in listed.split("; of "):
                found = re.fullmatch(r"(?:`(\w+)`: )?([^:]+)", part.strip())
                assert found, part
                command = " ".join(filter(None, (words, found[1])))
                assert set(re.findall(r"--[a-z-]+", found[2])) == options[command], command
                checked += 1
    assert checked > 15


# -- what must fail


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the pages, and what they link to, into a repository of their own."""
    root = tmp_path_factory.mktemp("repository")
    for name in ("docs", "examples", "deploy"):
        shutil.copytree(
            ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", "keys", "data")
        )
    for name in TOP_PAGES:
        shutil.copy(ROOT / name, root)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("glossary.md#nothing", "anchor does not exist"),
        ("nothing.md", "docs/guide.md: the link to 'nothing.md' leads nowhere"),
    ],
)
def test_a_wrong_link_ends_the_build(copy: Path, tmp_path: Path, link: str, problem: str) -> None:
    page = copy / "docs" / "guide.md"
    before = page.read_text()
    page.write_text(f"{before}\n[a]({link})\n")
    try:
        with pytest.raises(BuildFailed, match=re.escape(problem)):
            build(tmp_path, Repository(copy))
    finally:
        page.write_text(before)


def test_a_new_page_comes_into_the_navigation_by_its_folder(copy: Path, tmp_path: Path) -> None:
    """A tutorial and a how-to page do. Any other page must be listed, or the build fails."""
    new = ("tutorial/zz.md", "how-to/zz.md", "orphan.md")
    for name in new:
        (copy / "docs" / name).write_text("# A new page\n")
    try:
        with pytest.raises(BuildFailed) as failed:
            build(tmp_path, Repository(copy))
    finally:
        for name in new:
            (copy / "docs" / name).unlink()
    assert str(failed.value) == "orphan/index.html: it is not in the navigation: add it to docs/.nav.yml"
    listed = Page((tmp_path / "site" / "index.html").read_text()).navigation
    assert {"tutorial/zz/", "how-to/zz/"} <= {link.removeprefix("./") for link in listed}


@pytest.mark.parametrize(
    ("code", "kept"),
    [
        ("--json", True),
        ("a&lt;b", True),
        (LONGEST * "a", True),
        ((LONGEST + 1) * "a", False),
        ("two words", False),
        ("<span>a</span>", False),
        ("", False),
    ],
)
def test_short_words_of_code_are_kept_whole(code: str, kept: bool) -> None:
    found = '<code class="short">' if kept else "<code>"
    assert keep_whole(f"<p><code>{code}</code> <code>b</code></p>") == (
        f'<p>{found}{code}</code> <code class="short">b</code></p>'
    )


def test_a_stroke_in_code_shows_no_escape(site: Path) -> None:
    pages = [page.read_text() for page in (site / "reference").rglob("*.html")]
    assert any("KEY|FILE</code>" in page for page in pages)
    assert not [
        code for page in pages for code in re.findall(r"<code[^>]*>[^<]*</code>", page) if r"\|" in code
    ]


def test_the_pages_keep_short_words_of_code_whole(site: Path) -> None:
    assert '<code class="short">--help</code>' in (site / "cli" / "index.html").read_text()


PAGE = '<nav class="md-nav--primary"><a href=".">home</a>{navigation}</nav><h1 id="top">a</h1>{body}'


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ('<a href="nothing/">a</a>', "index.html: the link to 'nothing/' leads nowhere"),
        ('<a href="#nothing">a</a>', "index.html: the link to '#nothing' leads to no such anchor"),
        (
            '<a href="other/#nothing">a</a>',
            "index.html: the link to 'other/#nothing' leads to no such anchor",
        ),
        ('<script src="https://cdn.example/a.js"></script>', "index.html: it loads https://cdn.example/a.js"),
        ('<img src="//cdn.example/a.png">', "index.html: it loads //cdn.example/a.png"),
        (
            "<p>text\n| a | b |</p>",
            "index.html: this is not rendered: 'text\\n| a | b |'; an empty line belongs",
        ),
        ("<p>text\n2. a\n3. b</p>", "index.html: this is not rendered: 'text\\n2. a\\n3. b'; an empty line"),
        ("<p>Args:\n    a: b</p>", "index.html: this section of a docstring is not read: 'Args:\\n    a: b'"),
        ('<a href="#top">a</a><a href="other/#there">a</a><a href="https://example.com/">a</a>', None),
    ],
)
def test_the_checks_of_a_site(tmp_path: Path, body: str, problem: str | None) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "index.html").write_text('<h1 id="there">b</h1>')
    (tmp_path / "index.html").write_text(PAGE.format(navigation='<a href="other/">b</a>', body=body))
    found = list(problems(tmp_path))
    if problem is None:
        assert found == []
    else:
        assert len(found) == 1 and found[0].startswith(problem), found


def test_links_in_code_stay() -> None:
    text = "[a](b.md) `[a](b.md)`\n\n```\n[a](b.md)\n```\n\n![a](b.png) [`x`](c.md#d)\n"
    changed = with_links(text, lambda target: f"<{target}>")
    assert changed == "[a](<b.md>) `[a](b.md)`\n\n```\n[a](b.md)\n```\n\n![a](<b.png>) [`x`](<c.md#d>)\n"


def test_numbered_items_are_indented() -> None:
    text = "1. one\n   - in it\n\n   ```\n     code\n   ```\n10. ten\n    more\n\nText\n   as it is\n"
    assert indented(text) == (
        "1. one\n    - in it\n\n    ```\n      code\n    ```\n10. ten\n    more\n\nText\n   as it is\n"
    )


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = subprocess.run(
            [sys.executable, "-m", "ringback_website", "--into", str(tmp_path), "--serve", port],
            env={**ENVIRONMENT, "PYTHONPATH": str(ROOT / "website")},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"cannot serve on port {port}: ") and len(ended.stderr.splitlines()) == 1


# -- the landing page


def test_the_snippet_of_the_landing_page(tmp_path: Path) -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", INDEX, re.S)
    with BrokerProcess() as broker:
        script = tmp_path / "snippet.py"
        script.write_text(
            snippet.replace("tcp://127.0.0.1:5770", broker.players).replace(
                "tcp://127.0.0.1:5771", broker.backend
            )
        )
        with Process(str(script)) as process:
            assert process.wait() == 0, process.output()
            assert process.output() == ["{'x': 1.0, 'y': 2.0}"]


def test_the_commands_of_the_landing_page() -> None:
    [console] = re.findall(r"```console\n(.*?)```", INDEX, re.S)
    sessions = re.findall(r"^\$ ringback (.*)\n((?:[^$].*\n)*)", console, re.M)
    assert len(sessions) == 2
    with BrokerProcess() as broker:
        for arguments, shown in sessions:
            with Process(
                "-m", "ringback_cli", *arguments.split(), environment={"RINGBACK_BACKEND": broker.backend}
            ) as process:
                process.wait()
                assert alike("\n".join(process.output())) == alike(shown)


# -- in a browser


@pytest.fixture(scope="module")
def served(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or DRIVER is None:
        pytest.skip("Chromium and its driver are not installed")
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


SHOWN = ("", "guide/", "protocol/", "cli/", "reference/api/aio/", "reference/errors/", "files/examples/")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_a_page_fits_and_loads_nothing_from_elsewhere(
    chromium: Browser, served: str, size: tuple[int, int], dark: bool
) -> None:
    chromium.complaints(), chromium.requests()
    chromium.look(size, dark=dark)
    for path in SHOWN:
        chromium.driver.get(served + path)
        assert chromium.run("return document.documentElement.scrollWidth <= innerWidth"), path
        background = chromium.run("return getComputedStyle(document.body).backgroundColor")
        lightest = max(map(int, re.findall(r"\d+", background)[:3]))
        assert (lightest < 100) == dark, path
    assert chromium.complaints() == []
    asked = [url for url in chromium.requests() if not url.startswith((served, "data:", "chrome", "about:"))]
    assert asked == []


def test_the_policy_holds(chromium: Browser, served: str) -> None:
    """The pages refuse what they do not need: a script from elsewhere, and one that somebody puts in."""
    chromium.driver.get(served)
    chromium.complaints()
    chromium.run(
        "const script = document.createElement('script'); script.textContent = 'window.put_in = 1';"
        "document.head.append(script); const image = new Image(); image.src = 'http://127.0.0.2/a.png'"
    )
    assert chromium.run("return window.put_in") is None
    complaints: list[str] = []
    chromium.until(lambda: complaints.extend(chromium.complaints()) or len(complaints) >= 2, "two refusals")
    assert all("Content Security Policy" in complaint for complaint in complaints)


def test_the_search_finds_a_page(chromium: Browser, served: str) -> None:
    chromium.look(WIDE)
    chromium.driver.get(served)
    chromium.complaints()
    chromium.find("button.md-search__button").click()
    box = "return document.activeElement.shadowRoot?.activeElement"
    chromium.until(lambda: chromium.run(f"{box}?.tagName") == "INPUT", "the search is open")
    chromium.run(box).send_keys("standby")
    results = "return document.activeElement.shadowRoot.querySelector('[role=listbox]').innerText"
    chromium.until(lambda: "Replacing a server" in chromium.run(results), "the guide is found")
    assert chromium.complaints() == []
