"""The options of the benchmarks: what is wrong is said in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("program", "arguments", "error"),
    [
        ("run", ["--scenarios", "up,x"], "argument --scenarios: 'x' is none of up, down, down-100, blob"),
        ("run", ["--contenders", "Nats"], "argument --contenders: 'Nats' is none of loops, "),
        ("run", ["--in-flight", "64,,"], "argument --in-flight: '' is no whole number above 0"),
        ("run", ["--seconds", "0"], "argument --seconds: '0' is no number of seconds above 0, up to 3600"),
        ("realm", ["--ways", "far"], "argument --ways: 'far' is none of local, crossing, nats"),
        ("realm", ["--rounds", "-1"], "argument --rounds: '-1' is no whole number above 0"),
        ("crowd", ["--players", "ten"], "argument --players: 'ten' is no whole number above 0"),
        ("handshakes", ["--at-once", "0"], "argument --at-once: '0' is no whole number above 0"),
        ("metrics", ["--rounds", "0.5"], "argument --rounds: '0.5' is no whole number above 0"),
        ("neighbours", ["--seconds", "inf"], "argument --seconds: 'inf' is no number of seconds above 0"),
        ("realm_crowd", ["--nodes", "0"], "argument --nodes: '0' is no whole number above 0"),
        ("realm_model", ["--players", ""], "argument --players: '' is no whole number above 0"),
        ("dashboard", ["--seconds", "-1"], "argument --seconds: '-1' is no number of seconds above 0"),
        ("report", ["--x"], "unrecognized arguments: --x"),
        ("soak", ["--minutes", "x"], "argument --minutes: invalid float value: 'x'"),
        ("service_levels", ["--scenarios", "x"], "argument --scenarios: 'x' is none of open-loop-down, "),
        ("service_levels", ["--contenders", ""], "argument --contenders: '' is none of ringback.aio, nats, "),
        ("service_levels", ["--rates", "1000,1e3"], "argument --rates: '1e3' is no whole number above 0"),
        ("service_levels", ["--seconds", "nan"], "argument --seconds: 'nan' is no number of seconds above 0"),
    ],
)
def test_a_wrong_option_is_one_line(program: str, arguments: list[str], error: str) -> None:
    run = subprocess.run(
        [sys.executable, f"bench/{program}.py", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"{program}.py: {error}") and run.stderr.count("\n") == 1
