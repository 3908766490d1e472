"""The wheel works in a clean environment. Tests in the source folders would not notice a missing file."""

from __future__ import annotations

import subprocess
import sys
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


@pytest.mark.slow
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
    assert {path.name for path in page.iterdir()} == {"app.js", "icon.svg", "index.html", "style.css"}
    assert "Everything happened as expected." in run(python, ROOT / "examples" / "demo.py", cwd=tmp_path)
    assert "Usage" in run(tmp_path / "clean" / "bin" / "ringback", "--help", cwd=tmp_path)
