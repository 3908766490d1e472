"""The wheel works in a clean environment. Tests in the source folders would not notice a missing file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
INSTALL_WITHIN_S = 100.0


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=INSTALL_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_hints_to_install_name_extras_that_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    found = []
    files = [
        path
        for folder in ("sdk", "broker", "cli", "docs", "deploy", "tests/fuzz")
        for path in (ROOT / folder).rglob("*")
    ]
    for path in [*files, *ROOT.glob("*.md"), ROOT / "Makefile"]:
        if path.suffix in (".py", ".md", ".yaml", ".service") or path.name in ("Dockerfile", "Makefile"):
            text = path.read_text()
            found += re.findall(r"install_command\([\"'](\w+)[\"']\)", text)
            for what in re.findall(r"pip install[^`\n]*?'(?:ringback|\.)\[([^]]+)\]'", text):
                found += what.split(",")
            # Nobody has promised that the name is ours on an index.
            assert not re.search(r"pip install '?ringback", text), path
    assert {"broker", "tokens", "metrics", "dashboard", "tracing", "typed"} <= set(found) <= set(extras)


@pytest.mark.slow
@pytest.mark.timeout(4 * INSTALL_WITHIN_S)
def test_the_wheel_has_everything_that_the_demo_needs(tmp_path: Path) -> None:
    pip = ("-m", "pip", "--disable-pip-version-check", "--quiet")
    run(sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, ROOT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("ringback-*.whl")
    venv.create(tmp_path / "clean", with_pip=True)
    python = tmp_path / "clean" / "bin" / "python"
    run(python, *pip, "install", wheel, cwd=tmp_path)
    installed = run(python, "-c", "import ringback, ringback_broker; print(ringback.__file__)", cwd=tmp_path)
    assert str(tmp_path) in installed
    typed = Path(installed.strip()).parents[1].glob("ringback*/py.typed")
    assert len(list(typed)) == 3
    page = Path(installed.strip()).parents[1] / "ringback_broker" / "http" / "static"
    files = {path.relative_to(page) for path in page.rglob("*") if path.is_file()}
    source = ROOT / "broker" / "ringback_broker" / "http" / "static"
    assert files == {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert {"app.js", "index.html", "vendor/uPlot.iife.min.js", "vendor/LICENSE"} <= set(map(str, files))
    # The base is enough for a broker and for the SDK, and a command that needs more says what to install.
    base = run(python, *pip, "list", "--format", "freeze", cwd=tmp_path)
    assert not re.search(r"tomlkit|pyjwt|starlette|msgspec", base, re.I)
    assert "Everything happened as expected." in run(python, ROOT / "examples" / "demo.py", cwd=tmp_path)
    # pytest finds the plugin of a project that has nothing but this wheel and pytest.
    (tmp_path / "test_plugin.py").write_text("def test(ringback_endpoints): ringback_endpoints.server()\n")
    run(python, *pip, "install", "pytest", cwd=tmp_path)
    assert "1 passed" in run(python, "-m", "pytest", "-q", "test_plugin.py", cwd=tmp_path)
    ringback = tmp_path / "clean" / "bin" / "ringback"
    assert "Usage" in run(ringback, "--help", cwd=tmp_path)
    allow = (ringback, "keys", "allow", "k" * 40, "--name", "a", "--role", "operator")
    refused = subprocess.run(allow, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and refused.stdout == ""
    install_broker = run(
        python, "-c", "from ringback.extras import install_command as c; print(c('broker'))", cwd=tmp_path
    )
    assert refused.stderr == f"USAGE: editing the access list needs tomlkit: {install_broker}"
    modules = {
        "broker": "tomlkit",
        "tokens": "jwt",
        "dashboard": "starlette",
        "tracing": "opentelemetry.trace",
        "typed": "msgspec",
    }
    for extra, module in modules.items():
        # The hint that programs print works as printed, in any shell that there is.
        hint = run(
            python,
            "-c",
            f"from ringback.extras import install_command as c; print(c({extra!r}))",
            cwd=tmp_path,
        )
        for shell in filter(shutil.which, ("sh", "bash", "zsh", "fish")):
            run(shell, "-c", hint, cwd=tmp_path)
        run(python, "-c", f"import {module}", cwd=tmp_path)
    run(*allow, cwd=tmp_path)
