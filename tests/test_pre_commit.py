"""The hooks of pre-commit check what `make lint` checks, and need no network."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.harness import ROOT

CONFIG = ROOT / ".pre-commit-config.yaml"
BIN = Path(sys.executable).parent

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
"""Git sets variables for its hooks. With them, the commands here would use the repository that runs the
hook."""

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def read_hooks() -> list[dict[str, object]]:
    """Return the hooks in `.pre-commit-config.yaml`."""
    [repo] = yaml.safe_load(CONFIG.read_text())["repos"]
    assert repo["repo"] == "local"  # any other repository would be downloaded
    hooks: list[dict[str, object]] = repo["hooks"]
    return hooks


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a new git repository with the configuration of this one, and its virtual environment."""
    subprocess.run(("git", "init", "-q", str(tmp_path)), env=ENVIRONMENT, check=True)
    shutil.copy(CONFIG, tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / ".venv").symlink_to(BIN.parent)
    return tmp_path


def run_hooks(repository: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run all hooks on a repository with one module, and return what they say."""
    (repository / "module.py").write_text(source)
    subprocess.run(("git", "add", "module.py"), cwd=repository, env=ENVIRONMENT, check=True)
    return subprocess.run(
        (str(BIN / "pre-commit"), "run", "--all-files"),
        cwd=repository,
        env={**ENVIRONMENT, "PRE_COMMIT_HOME": str(repository / ".cache")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_hooks_are_the_commands_of_make_lint() -> None:
    [recipe] = re.findall(r"^lint: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    commands = [line.removeprefix("\t$(BIN)/").removesuffix(" .") for line in recipe.splitlines()]
    entries = [str(hook["entry"]).removeprefix(".venv/bin/") for hook in read_hooks()]
    assert entries == commands


@needs_git
def test_a_clean_module_passes(repository: Path) -> None:
    done = run_hooks(repository, "COUNT = 1\n")
    assert done.returncode == 0, done.stdout


@needs_git
@pytest.mark.parametrize(
    ("source", "hook"),
    [("import os\n", "ruff-check"), ("COUNT  =  1\n", "ruff-format")],
)
def test_a_hook_finds_what_make_lint_finds(repository: Path, source: str, hook: str) -> None:
    done = run_hooks(repository, source)
    assert done.returncode == 1
    assert re.findall(r"hook id: (\S+)", done.stdout) == [hook]
