"""The pages of the API: for each public module the names that it exports, for mkdocstrings to describe."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import dataclass

from ringback.errors import CallbackError, LinkError
from ringback_broker.settings.schema import BrokerSettings
from ringback_website.repository import ROOT


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        of: the names are only those that come from one of these modules. Empty: the remaining ones.
        about: the module whose docstring introduces the page.
        extra: names that the module does not export, and that users meet all the same.
    """

    file: str
    title: str
    module: str
    of: tuple[str, ...] = ()
    about: str = ""
    extra: tuple[str, ...] = ()


_PLUGIN = (ROOT / "sdk" / "ringback" / "testing" / "plugin.py").read_text("utf-8")
FIXTURES = tuple(
    f"ringback.testing.plugin.{name}" for name in re.findall(r"^def (ringback_\w+)", _PLUGIN, re.M)
)
"""The fixtures of pytest. They are read here, because importing the plugin needs pytest."""

MADE_BY_RINGBACK = {
    *("Call", "CallGroup", "Execution", "Registration", "EndpointCounters", "BindError", "InvalidSetting"),
    *("AioCalls", "AioEndpoints", "Calls", "Endpoints", "Errors", "LoggedError", "Network", "RecordedCall"),
}
"""Classes that users get objects of, and never make any themselves."""

SEE = {
    "errors.md": "[Error codes](../errors.md) has the number, `executed` and the exit code of each.",
    "broker.md": "`BrokerSettings` takes the [settings](../settings.md), by their names.",
}
"""Pages of the reference that go on where a page of the API ends."""

FIRST = [
    *("Server", "Player", "Operator", "Call", "CallGroup", "RingbackError", "CallbackError", "LinkError"),
    *(name.rpartition(".")[2] for name in FIXTURES),
]
"""What a page begins with. The other names follow in the order of `__all__`."""

PAGES = [
    Page("endpoints.md", "Endpoints: ringback", "ringback", of=("ringback.blocking",), about="ringback"),
    Page("aio.md", "Endpoints in asyncio: ringback.aio", "ringback.aio", about="ringback.aio"),
    Page("calls.md", "Calls and options", "ringback", extra=("ringback.core.counters.EndpointCounters",)),
    Page("errors.md", "Errors", "ringback", of=("ringback.errors",), about="ringback.errors"),
    Page("contracts.md", "Contracts", "ringback", of=("ringback.contracts",), about="ringback.contracts"),
    Page(
        "testing.md", "Tests: ringback.testing", "ringback.testing", about="ringback.testing", extra=FIXTURES
    ),
    Page("tokens.md", "Tokens: ringback.tokens", "ringback.tokens", about="ringback.tokens"),
    Page(
        "credentials.md",
        "Key pairs: ringback.credentials",
        "ringback.credentials",
        about="ringback.credentials",
    ),
    Page("tracing.md", "Traces: ringback.tracing", "ringback.tracing", about="ringback.tracing"),
    Page("broker.md", "A broker in a program: ringback_broker", "ringback_broker", about="ringback_broker"),
]


def names(page: Page) -> list[str]:
    """Return the full names that a page describes, in the order of `__all__`."""
    taken = {module for other in PAGES if other.module == page.module for module in other.of}
    module = importlib.import_module(page.module)
    found = []
    for name in module.__all__:
        home = getattr(getattr(module, name), "__module__", "")
        if (home in page.of) if page.of else (home not in taken):
            found.append(f"{page.module}.{name}")
    found += page.extra
    return sorted(found, key=lambda name: _rank(name.rpartition(".")[2]))


def _rank(name: str) -> int:
    return FIRST.index(name) if name in FIRST else len(FIRST)


def markdown(page: Page) -> str:
    """Return the text of a page, for mkdocstrings to fill in."""
    lines = [f"# {page.title}", ""]
    if page.about:
        docstring = inspect.getdoc(importlib.import_module(page.about)) or ""
        lines += [docstring, ""]
    if page.file in SEE:
        lines += [SEE[page.file], ""]
    for name in names(page):
        lines += [f"::: {name}", *_options(name), ""]
    return "\n".join(lines)


def _options(name: str) -> list[str]:
    """Return the lines with the options of one name, if it has any of its own."""
    if name in FIXTURES:  # pytest passes its arguments
        return ["    options:", "      show_signature: false"]
    module, _, last = name.rpartition(".")
    known = getattr(importlib.import_module(module), last)
    options = []
    if inspect.isclass(known):
        if issubclass(known, CallbackError | LinkError) and known is not CallbackError:  # ringback makes them
            options += ["inherited_members: false", "merge_init_into_class: false", "show_bases: true"]
        if last in MADE_BY_RINGBACK or known is BrokerSettings:
            options.append("merge_init_into_class: false")
    return ["    options:", *(f"      {option}" for option in options)] if options else []
