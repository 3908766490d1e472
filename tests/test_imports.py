"""The rules of import between the folders of the three packages, read from the source.

All imports count: those inside functions and those for type checkers alone too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT, ROOT

PACKAGES = {
    "ringback": ROOT / "sdk" / "ringback",
    "ringback_broker": ROOT / "broker" / "ringback_broker",
    "ringback_cli": ROOT / "cli" / "ringback_cli",
}

ORDER = {
    "ringback": [
        {"_argument_names"},
        {"errors", "_version", "extras", "systems"},
        {"protocol"},
        {"core"},
        {"credentials", "log_folding", "converters"},
        {"contracts"},
        {"_runtime"},
        {"_roles"},
        {"blocking", "aio"},
        {"__init__"},
        {"tokens", "tracing"},  # users import these two; no endpoint does
        {"testing"},  # for the tests of users. It runs a broker, and nothing else of the SDK imports it
    ],
    "ringback_broker": [
        {"peers", "settings"},
        {"admission", "operations"},
        {"cluster"},
        {"switchboard"},
        {"net"},
        {"http", "nats"},
        {"daemon"},
        {"__init__"},
    ],
    "ringback_cli": [
        {"__init__"},
        {"shared"},  # all modules directly in the package, except those named below
        {"commands"},
        {"app"},
        {"main"},
        {"__main__"},
    ],
}
"""The rooms of each package, from the bottom up. A room is a folder, or a module directly in the package.
A room imports only itself and the rooms below it. Rooms on one level do not import each other."""

WIRE = (
    "ringback.protocol",
    "ringback.errors",
    "ringback.credentials",
    "ringback.log_folding",
    "ringback.extras",
    "ringback.systems",
)
"""What the broker imports of the SDK: the wire, how logs fold, what a system can do, and no endpoint."""

DASHBOARD = "ringback_broker.http.dashboard_operator"
"""The one module of the broker that imports an endpoint: the dashboard is an operator."""

EXTRAS = {
    "ringback.converters": {"msgspec"},
    "ringback.tokens": {"jwt", "cryptography"},
    "ringback._runtime.tracer": {"opentelemetry"},
    "ringback.testing.plugin": {"pytest"},
    "ringback.tracing": {"opentelemetry"},
    "ringback_broker.admission.token_verifier": {"jwt", "cryptography"},
    "ringback_broker.http.dashboard": {"starlette"},
    "ringback_broker.http.dashboard_web": {"starlette"},
    "ringback_broker.http.metrics": {"prometheus_client"},
    "ringback_broker.http.server": {"prometheus_client", "starlette", "uvicorn"},
    **{
        f"ringback_broker.nats.{name}": {"nats"}
        for name in ("bucket", "client", "frames", "looking", "problems", "records", "requests", "watch")
    },
    "ringback_broker.daemon.nats_side": {"nats"},
    "ringback_broker.nats.link": {"nats"},
    "ringback_broker.nats.login": {"nkeys"},
    "ringback_cli.access_files": {"tomlkit"},
    "ringback_cli.progress": {"rich"},
    "ringback_cli.tables": {"rich"},
    "ringback_cli.terminal": {"rich"},
}
"""The modules that import packages which only an extra installs."""

FOR_CHECKERS = {
    "ringback._roles.calls": {"typing_extensions"},
    "ringback.contracts": {"typing_extensions"},
}
"""The modules that import packages for type checkers alone, which bring these packages themselves."""

LOADED_LATE = {
    "ringback._runtime.tracer": {"ringback.tracing"},
    "ringback.testing.plugin": set(),  # pytest loads it
    "ringback_broker.http.dashboard": {"ringback_broker.daemon.http_side", "ringback_broker.http.server"},
    "ringback_broker.http.dashboard_web": {"ringback_broker.http.dashboard"},
    "ringback_broker.http.metrics": {"ringback_broker.http.server"},
    "ringback_broker.http.server": {"ringback_broker.daemon.http_side"},
    **{
        f"ringback_broker.nats.{name}": {
            "ringback_broker.daemon.nats_side" if user == "nats_side" else f"ringback_broker.nats.{user}"
            for user in users.split()
        }
        for name, users in (
            ("bucket", "link looking making"),
            ("client", "bucket frames link looking making requests watch"),
            ("frames", "link"),
            ("link", "nats_side"),
            ("making", "nats_side"),
            ("looking", "nats_side"),
            ("problems", "nats_side bucket client link looking making"),
            ("records", "link looking watch"),
            ("requests", "link looking records watch"),
            ("watch", "link looking"),
        )
    },
    "ringback_cli.terminal": {"ringback_cli.commands.top"},
}
"""The modules that cannot be imported without their extra, and the modules that import them: inside a
function, or for type checkers alone. The other modules in `EXTRAS` import the packages themselves in this
way."""

IMPURE = {
    *("zmq", "asyncio", "threading", "time", "logging", "socket", "select", "selectors"),
    *("concurrent", "multiprocessing", "subprocess", "os", "signal", "queue", "_thread", "datetime"),
    *("io", "shutil", "tempfile"),
}
"""Modules with sockets, clocks, threads, loops, files or logs. Pure folders do not import them."""

SLOW_TO_LOAD = ("rich", "zmq", "msgpack", "tomlkit", "termios")
"""Modules that `--help` does not wait for."""


def find_modules() -> dict[str, Path]:
    """Return the file of each module of the three packages, by the module's dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = (package, *path.relative_to(folder).with_suffix("").parts)
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = find_modules()


def read_imports(source: str, module: str, is_package: bool = False) -> set[str]:
    """Return the dotted names of all modules that a source text imports."""
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


@cache
def imports_of(name: str) -> set[str]:
    """Return the dotted names of all modules that a module of the three packages imports."""
    path = MODULES[name]
    return read_imports(path.read_text(), name, path.name == "__init__.py")


def is_in(name: str, *packages: str) -> bool:
    """Return whether a module is one of the packages, or is inside one."""
    return any(name == package or name.startswith(package + ".") for package in packages)


def modules_in(*packages: str) -> list[str]:
    """Return the modules of packages. Fail if there are none, since a rule would then check nothing."""
    found = [name for name in MODULES if is_in(name, *packages)]
    assert found, packages
    return found


def own_imports(name: str) -> set[str]:
    """Return the modules of the three packages that a module imports."""
    return {imported for imported in imports_of(name) if is_in(imported, *PACKAGES)}


def own_imports_except(names: list[str], *allowed: str) -> list[tuple[str, str]]:
    """Return each module that imports a module of the three packages outside the allowed ones."""
    return [(name, other) for name in names for other in own_imports(name) if not is_in(other, *allowed)]


def packages_needed(package: str) -> set[str]:
    """Return the packages from elsewhere that a package imports, without those that an extra installs."""
    needed = set()
    for name in modules_in(package):
        imported = {other.split(".")[0] for other in imports_of(name)}
        others = EXTRAS.get(name, set()) | FOR_CHECKERS.get(name, set())
        needed |= imported - sys.stdlib_module_names - PACKAGES.keys() - others
    return needed


def pure_folders() -> list[str]:
    """Return the folders that the Makefile lists as pure. There is no other list of them."""
    [listed] = re.findall(r"^PURE := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.M)
    folders = listed.replace("\\\n", " ").split()
    assert all((ROOT / folder).is_dir() for folder in folders)
    return folders


PURE = [".".join(folder.split("/")[1:]) for folder in pure_folders()]


def room_of(module: str) -> tuple[str, str]:
    """Return the package and the room of a module."""
    package, _, rest = module.partition(".")
    room = rest.split(".")[0] or "__init__"
    if package == "ringback_cli" and not any(room in level for level in ORDER[package]):
        room = "shared"
    return package, room


def level_of(module: str) -> int:
    """Return how high the room of a module stands in its package."""
    package, room = room_of(module)
    [level] = [number for number, rooms in enumerate(ORDER[package]) if room in rooms]
    return level


def source_folders() -> list[str]:
    """Return all folders with modules, as paths from the root: `sdk/ringback/core`."""
    folders = {path.parent.relative_to(ROOT) for path in MODULES.values()}
    return sorted(map(str, folders - {path.relative_to(ROOT) for path in PACKAGES.values()}))


# -- how these tests read the source


def test_the_reader_sees_all_imports() -> None:
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
    assert read_imports(source, "ringback.protocol.names") == {
        *("zmq.asyncio", "time", "threading"),
        *("ringback.errors", "ringback.protocol.frames", "ringback.protocol.limits", "ringback.core.peers"),
    }
    assert read_imports("from .core import shell", "ringback", is_package=True) == {"ringback.core.shell"}


def test_each_room_has_one_level() -> None:
    found = {room_of(module) for module in MODULES}
    listed = [(package, room) for package, levels in ORDER.items() for level in levels for room in level]
    assert sorted(listed) == sorted(found)


# -- folders


def test_a_folder_imports_only_folders_below_it() -> None:
    upwards = [
        (name, other)
        for name in MODULES
        for other in own_imports(name)
        if is_in(other, room_of(name)[0]) and room_of(other) != room_of(name)
        if level_of(other) >= level_of(name)
    ]
    assert upwards == []


def test_no_modules_import_each_other_in_a_circle() -> None:
    sorter = TopologicalSorter({name: own_imports(name) - {name} for name in MODULES})
    try:
        sorter.prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_the_sdk_imports_neither_the_broker_nor_the_command_line() -> None:
    """The exception is what users test their programs with: it imports the broker's public names."""
    others = [name for name in modules_in("ringback") if not is_in(name, "ringback.testing")]
    assert own_imports_except(others, "ringback") == []
    imported = {other for name in modules_in("ringback.testing") for other in own_imports(name)}
    assert {other for other in imported if not is_in(other, "ringback")} == {"ringback_broker"}


def test_the_broker_imports_the_wire_alone() -> None:
    """It imports no endpoint, except for the dashboard's, and nothing of the command line."""
    others = [name for name in modules_in("ringback_broker") if name != DASHBOARD]
    assert own_imports_except(others, "ringback_broker", *WIRE) == []
    assert own_imports_except([DASHBOARD], "ringback_broker", *WIRE, "ringback.aio") == []


def test_the_broker_loads_the_dashboard_s_endpoint_late() -> None:
    assert {name for name in MODULES if DASHBOARD in imports_of(name)} == {
        "ringback_broker.daemon.http_side",
        "ringback_broker.http.dashboard",
        *(f"ringback_broker.http.dashboard_{name}" for name in ("calls", "history", "tap")),
    }


def test_pure_folders_import_nothing_impure() -> None:
    """Follow the imports: a pure module must not reach an impure one through another module either."""
    reached, queue = set(), modules_in("ringback.errors", *PURE)
    while queue:
        module = queue.pop()
        if module not in reached and module in MODULES:
            reached.add(module)
            queue += imports_of(module)
    impure = [
        (name, other) for name in reached for other in imports_of(name) if other.split(".")[0] in IMPURE
    ]
    assert impure == []


def test_pure_folders_touch_no_file() -> None:
    """`PurePath` is pure, `Path` is not."""
    touching = [
        (name, node.id)
        for name in modules_in("ringback.errors", *PURE)
        for node in ast.walk(ast.parse(MODULES[name].read_text()))
        if isinstance(node, ast.Name) and node.id in {"Path", "open", "input", "print"}
    ]
    assert touching == []


def test_the_source_roots_are_not_packages() -> None:
    assert [folder for folder in PACKAGES.values() if (folder.parent / "__init__.py").exists()] == []
    assert [folder for folder in PACKAGES.values() if not (folder / "py.typed").exists()] == []


def test_each_source_folder_has_a_folder_of_tests() -> None:
    """`sdk/ringback/_runtime` is tested in `tests/sdk/runtime`."""
    without_tests = []
    for folder in source_folders():
        root, _, *rooms = folder.split("/")
        mirror = ROOT.joinpath("tests", root, *(room.removeprefix("_") for room in rooms))
        if not list(mirror.glob("test_*.py")):
            without_tests.append(folder)
    assert without_tests == []


# -- other packages


def test_the_sdk_needs_two_packages() -> None:
    assert packages_needed("ringback") == {"zmq", "msgpack"}


def test_the_faces_load_without_the_packages_for_type_checkers() -> None:
    code = "import sys; sys.modules['typing_extensions'] = None; import ringback.blocking, ringback.aio"
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_broker_needs_two_packages() -> None:
    assert packages_needed("ringback_broker") == {"zmq", "msgpack"}


def test_the_command_line_needs_one_more_package() -> None:
    assert packages_needed("ringback_cli") == {"typer", "zmq", "msgpack"}


def test_installing_brings_what_is_needed_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.match(r"[a-z-]+", needed)[0] for needed in project["dependencies"]}  # type: ignore[index]
    assert names == {"pyzmq", "msgpack", "typer"}


def test_everything_else_works_without_the_extras() -> None:
    code = f"""
import importlib, sys
for name in {sorted(set().union(*EXTRAS.values()))!r}:
    sys.modules[name] = None  # as if it were not installed
for name in {sorted(set(MODULES) - set(LOADED_LATE))!r}:
    if not name.endswith("__main__"):
        importlib.import_module(name)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("late", LOADED_LATE)
def test_a_module_that_needs_an_extra_is_loaded_late(late: str) -> None:
    importing = {name for name in MODULES if late in imports_of(name)}
    assert importing == LOADED_LATE[late]
    for name in importing - set(LOADED_LATE):
        at_the_top = ast.parse(MODULES[name].read_text()).body
        assert late not in {f"{node.module}" for node in at_the_top if isinstance(node, ast.ImportFrom)}


@pytest.mark.parametrize("arguments", [[], ["top"], ["trigger", "server"]])
def test_help_does_not_wait_for_slow_modules(arguments: list[str]) -> None:
    code = f"""
import sys
from ringback_cli.app import run
run(sys.argv[1:])
print(set({SLOW_TO_LOAD}) & set(sys.modules) or "none")
"""
    assert last_line(code, *arguments, "--help") == "none"


@pytest.mark.parametrize(("arguments", "module"), [(["hand-over"], "hand_over"), (["keys", "list"], "keys")])
def test_a_command_loads_no_other(arguments: list[str], module: str) -> None:
    code = """
import sys
from ringback_cli.app import run
run(sys.argv[1:])
print(*(name for name in sys.modules if name.startswith("ringback_cli.commands.")))
"""
    assert last_line(code, *arguments, "--help") == f"ringback_cli.commands.{module}"


def last_line(code: str, *arguments: str) -> str:
    """Run Python code in a process of its own, and return the last line that it prints."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1]
