"""Which module may import which, read from the source."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "ringback": ROOT / "sdk" / "ringback",
    "ringback_broker": ROOT / "broker" / "ringback_broker",
    "ringback_cli": ROOT / "cli" / "ringback_cli",
}
OPTIONAL = {
    **{name: {"jwt", "cryptography"} for name in ("ringback.tokens", "ringback_broker.admission.tokens")},
    "ringback_broker.http.metrics": {"prometheus_client"},
    "ringback_broker.http.server": {"prometheus_client", "starlette", "uvicorn"},
    "ringback_broker.http.dashboard": {"starlette"},
    **{name: {"opentelemetry"} for name in ("ringback.tracing", "ringback._runtime.tracer")},
}
"""What is there with an extra alone, and who may import it."""

WITH_AN_EXTRA = {
    "ringback_broker.http.metrics": {"ringback_broker.http.server"},
    "ringback_broker.http.server": {"ringback_broker.daemon.broker"},
    "ringback_broker.http.dashboard": {"ringback_broker.daemon.broker", "ringback_broker.http.server"},
    "ringback._runtime.tracer": {"ringback.tracing", "ringback._runtime.context"},
}
"""Modules that are imported where their extra is needed, and by whom, inside functions or for types alone;
others import what is optional in the same way."""

IMPURE = {
    *("zmq", "asyncio", "threading", "time", "logging", "socket", "select", "selectors"),
    *("concurrent", "multiprocessing", "subprocess", "os", "signal", "queue", "_thread", "datetime"),
}


def modules() -> dict[str, Path]:
    """Gives every module of the three packages by its name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(source: str, module: str, is_package: bool = False) -> set[str]:
    """Gives the dotted names that a module imports, inside functions and under TYPE_CHECKING too."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, base] if base else parts)
            for alias in node.names:
                name = f"{base}.{alias.name}"
                found.add(name if name in MODULES else base)
    return found


IMPORTS = {
    name: imports(path.read_text(), name, path.name == "__init__.py") for name, path in MODULES.items()
}


def below(name: str, *packages: str) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


def of(*packages: str) -> list[str]:
    """Gives the modules of packages; fails if there are none, since then a rule would hold nothing."""
    found = [name for name in MODULES if below(name, *packages)]
    assert found, packages
    return found


def pure_folders() -> list[str]:
    """Return the packages of the folders that the Makefile lists as pure, the one list of them."""
    [listed] = re.findall(r"^PURE := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.M)
    folders = listed.replace("\\\n", " ").split()
    assert all((ROOT / folder).is_dir() for folder in folders)
    return [".".join(folder.split("/")[1:]) for folder in folders]


PURE = pure_folders()


def own(name: str) -> set[str]:
    """Gives what a module imports of the three packages."""
    return {imported for imported in IMPORTS[name] if below(imported, *PACKAGES)}


def test_the_reader_sees_imports() -> None:
    source = """
import zmq.asyncio as z
from ringback import errors
from . import frames
from .limits import Limits
from ..core.peers import Peer
def late():
    import time
if TYPE_CHECKING:
    from threading import Lock
"""
    assert imports(source, "ringback.protocol.names") == {
        *("zmq.asyncio", "time", "threading"),
        *("ringback.errors", "ringback.protocol.frames", "ringback.protocol.limits", "ringback.core.peers"),
    }
    assert imports("from .core import shell", "ringback", is_package=True) == {"ringback.core.shell"}


@pytest.mark.parametrize("name", of("ringback.errors"))
def test_errors_import_nothing_of_ours(name: str) -> None:
    assert own(name) == set()


@pytest.mark.parametrize("name", of("ringback.protocol"))
def test_the_protocol_imports_only_errors(name: str) -> None:
    assert {other for other in own(name) if not below(other, "ringback.protocol", "ringback.errors")} == set()


@pytest.mark.parametrize("name", of("ringback.core"))
def test_the_core_imports_only_the_protocol_and_errors(name: str) -> None:
    allowed = ("ringback.core", "ringback.protocol", "ringback.errors")
    assert {other for other in own(name) if not below(other, *allowed)} == set()


@pytest.mark.parametrize("name", of("ringback.errors", *PURE))
def test_what_is_pure_imports_nothing_impure(name: str) -> None:
    """Follow the imports too: a pure module must not reach an impure one through another."""
    seen, queue = set(), [name]
    while queue:
        module = queue.pop()
        if module in seen or module not in MODULES:
            continue
        seen.add(module)
        assert {other.split(".")[0] for other in IMPORTS[module]} & IMPURE == set(), module
        queue += IMPORTS[module]


@pytest.mark.parametrize("name", of("ringback"))
def test_the_sdk_needs_little(name: str) -> None:
    roots = {imported.split(".")[0] for imported in IMPORTS[name]}
    allowed = {"zmq", "msgpack", "ringback"} | OPTIONAL.get(name, set())
    assert roots - sys.stdlib_module_names - allowed == set()


@pytest.mark.parametrize("name", of("ringback_broker"))
def test_the_broker_imports_the_wire_only(name: str) -> None:
    allowed = ("ringback_broker", "ringback.protocol", "ringback.errors", "ringback.credentials")
    # The dashboard asks the broker as an operator among others, from the thread of HTTP, so that the
    # switchboard has nothing for it. Nothing else of the broker may use an endpoint.
    allowed += {
        "ringback_broker.http.observer": ("ringback.aio",),
        "ringback_broker.http.dashboard": ("ringback.protocol.json_values",),
    }.get(name, ())
    assert {other for other in own(name) if not below(other, *allowed)} == set()
    roots = {imported.split(".")[0] for imported in IMPORTS[name]}
    allowed = {"zmq", "msgpack", "pydantic", "annotated_types", "ringback", "ringback_broker"}
    allowed |= OPTIONAL.get(name, set())
    assert roots - sys.stdlib_module_names - allowed == set()


def test_what_is_optional_is_imported_only_when_used() -> None:
    code = f"""
import importlib, sys
for name in {sorted(set().union(*OPTIONAL.values()))!r}:
    sys.modules[name] = None  # as if it were not installed
for name in {sorted(set(MODULES) - set(WITH_AN_EXTRA))!r}:
    if not name.endswith("__main__"):
        importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("extra", WITH_AN_EXTRA)
def test_what_needs_an_extra_is_imported_only_when_used(extra: str) -> None:
    importing = {name for name in MODULES if extra in IMPORTS[name]}
    assert importing == WITH_AN_EXTRA[extra]
    for name in importing - set(WITH_AN_EXTRA):
        outside = ast.parse(MODULES[name].read_text()).body
        assert extra not in {f"{node.module}" for node in outside if isinstance(node, ast.ImportFrom)}


def test_the_broker_s_one_endpoint_is_the_dashboard_s() -> None:
    """The dashboard is an operator, and the broker none: only where it is wanted are endpoints imported."""
    assert {name for name in MODULES if "ringback_broker.http.observer" in IMPORTS[name]} == {
        "ringback_broker.daemon.broker",
        "ringback_broker.http.dashboard",
    }


SLOW_TO_LOAD = ("rich", "zmq", "msgpack", "tomlkit", "termios")


@pytest.mark.parametrize("arguments", [[], ["top"], ["trigger", "server"]])
def test_a_help_text_does_without_what_takes_long_to_load(arguments: list[str]) -> None:
    code = f"""
import sys
from ringback_cli.app import run
run(sys.argv[1:])
print(set({SLOW_TO_LOAD}) & set(sys.modules) or "none")
"""
    command = [sys.executable, "-c", code, *arguments, "--help"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "none"


def test_no_endpoint_imports_what_mints_tokens() -> None:
    """It asks the wall clock, and holds secrets."""
    importing = {name for name in MODULES if "ringback.tokens" in IMPORTS[name]}
    assert {name for name in importing if not below(name, "ringback_cli")} == set()


@pytest.mark.parametrize("name", of("ringback", "ringback_broker"))
def test_nothing_imports_the_command_line(name: str) -> None:
    assert not [other for other in own(name) if below(other, "ringback_cli")]


def test_the_source_roots_are_no_packages() -> None:
    assert [folder for folder in PACKAGES.values() if (folder.parent / "__init__.py").exists()] == []
    assert [folder for folder in PACKAGES.values() if not (folder / "py.typed").exists()] == []
