"""The last line of `make test` says what ran, what was skipped, and why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.summary import line

TESTS = Path(__file__).parent

STORY = """
import pytest

def test_passes(): pass

@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.skip(reason="needs Chromium")
def test_needs_chromium(number): pass

def test_needs_root(): pytest.skip("needs root")

def test_fails(): assert False

@pytest.fixture
def broken(): raise ValueError

def test_has_a_broken_fixture(broken): pass
"""


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one process", "xdist"])
def test_a_run_writes_its_outcomes(tmp_path: Path, processes: list[str]) -> None:
    (tmp_path / "test_story.py").write_text(STORY)
    (tmp_path / "pytest.ini").write_text("[pytest]")
    results = tmp_path / "results" / "pure.json"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "support.summary", *processes, "test_story.py"],
        cwd=tmp_path,
        env={**os.environ, "TEST_RESULTS": str(results), "PYTHONPATH": str(TESTS)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    skipped = {"needs Chromium": 2, "needs root": 1}
    assert json.loads(results.read_text()) == {"passed": 1, "failed": 2, "skipped": skipped}
    assert line(results.parent, 2) == (
        "make test: FAILED, see above: ran 3 tests of the pure folders (2 failed);"
        " did not run: tests with random inputs, tests with processes;"
        " 3 skipped: 2 x needs Chromium, 1 x needs root"
    )


def test_the_runs_are_summed_up(tmp_path: Path) -> None:
    for stage, passed, skipped in (
        ("pure", 3, {}),
        ("random", 1, {"x": 1}),
        ("waiting", 2, {"x": 1, "a": 1}),
    ):
        outcomes = {"passed": passed, "failed": 0, "skipped": skipped}
        (tmp_path / f"{stage}.json").write_text(json.dumps(outcomes))
    assert line(tmp_path, 0) == (
        "make test: all checks passed: lint, types, 3 tests of the pure folders, 1 tests with random inputs,"
        " 2 tests with processes; 3 skipped: 1 x a, 2 x x"
    )


def test_nothing_may_have_run(tmp_path: Path) -> None:
    assert "FAILED, see above: ran no tests; did not run: tests of the pure" in line(tmp_path, 2)
    assert line(tmp_path, 2).endswith("; nothing skipped")
