"""The public names of the package are loaded when they are used, and type checkers see the same names."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from support.harness import ENVIRONMENT

import ringback
from ringback.errors import ERROR_CLASSES, REFUSED_CLASSES

HEAVY = ("ringback.blocking", "ringback.core", "zmq", "msgpack", "asyncio")


def names_for_type_checkers() -> dict[str, str]:
    """Return the names that `__init__.py` imports for type checkers, and the module of each."""
    tree = ast.parse(Path(ringback.__file__).read_text())
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        f"{alias.asname}": f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }


def test_type_checkers_and_the_interpreter_see_the_same_names() -> None:
    assert names_for_type_checkers() == ringback._MODULES
    assert set(ringback.__all__) == {*ringback._MODULES, "__version__"}


def test_every_name_exists_and_is_listed() -> None:
    for name in ringback.__all__:
        assert getattr(ringback, name) is not None
    assert set(ringback.__all__) <= set(dir(ringback))
    with pytest.raises(AttributeError, match="no attribute 'servers'"):
        ringback.servers  # noqa: B018


@pytest.mark.parametrize("name", ringback._TO_IMPORT)
def test_a_module_that_is_not_imported_is_named(name: str) -> None:
    code = f"""
import ringback
try:
    ringback.{name}
except AttributeError as error:
    print(error)
import ringback.{name}
from ringback import {name}
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    text = f"module 'ringback' has no attribute '{name}': write `import ringback.{name}`"
    assert (done.stdout, done.stderr) == (f"{text}\n", "")


def test_a_misspelt_name_gets_a_suggestion() -> None:
    command = [sys.executable, "-c", "import ringback; ringback.Playr"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stderr.endswith("no attribute 'Playr'. Did you mean: 'Player'?\n")


def test_every_error_of_a_code_is_public() -> None:
    for error in (*ERROR_CLASSES.values(), *REFUSED_CLASSES.values()):
        assert error.__name__ in ringback.__all__


def test_importing_the_package_loads_none_of_its_parts() -> None:
    code = f"import sys, ringback; print([name for name in {HEAVY} if name in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_the_faces_load_no_converters_of_others_before_a_type_is_used() -> None:
    code = """
import sys, ringback, ringback.aio
ringback.Server, ringback.ServerCallback
print([name for name in ("msgspec", "pydantic") if name in sys.modules])
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr
