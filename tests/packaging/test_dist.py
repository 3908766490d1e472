"""`make dist` builds what a release needs, and there is one version."""

from __future__ import annotations

import re
import subprocess
import tarfile
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from ringback import __version__

ROOT = Path(__file__).parents[2]


def files_of_the_tree() -> set[str]:
    """Return what git has, or would have with the next commit."""
    command = ("git", "ls-files", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no clone of the repository")
    return {path for path in listed.stdout.splitlines() if (ROOT / path).exists()}


@pytest.mark.slow
def test_make_dist_builds_an_sdist_and_a_wheel(tmp_path: Path) -> None:
    """It compares the wheel of the sdist with that of the tree, and runs `twine check --strict` itself."""
    command = ("make", "dist", f"DIST={tmp_path}")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASSED") == 2
    (wheel,) = tmp_path.glob("*.whl")
    (sdist,) = tmp_path.glob("*.tar.gz")
    name = f"ringback-{__version__}"
    assert (wheel.name, sdist.name) == (f"{name}-py3-none-any.whl", f"{name}.tar.gz")

    with tarfile.open(sdist) as archive:
        in_sdist = {member.name.removeprefix(f"{name}/") for member in archive.getmembers()}
    tree = files_of_the_tree()
    assert in_sdist == {*tree, "PKG-INFO"}
    assert {"CHANGELOG.md", "SECURITY.md", "docs/guide.md", "examples/demo.py", "Makefile"} <= in_sdist

    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {path for path in archive.namelist() if not path.startswith(f"{name}.dist-info/")}
        metadata = Parser().parsestr(archive.read(f"{name}.dist-info/METADATA").decode())
        assert f"{name}.dist-info/licenses/LICENSE" in archive.namelist()
    packages = {path.split("/", 1)[1] for path in tree if path.startswith(("sdk/", "broker/", "cli/"))}
    assert in_wheel == packages
    classifiers = metadata.get_all("Classifier") or []
    for version in ("3.11", "3.12", "3.13", "3.14"):
        assert f"Programming Language :: Python :: {version}" in classifiers
    assert metadata["Author"] == "The ringback authors" and metadata["License-Expression"] == "MIT"
    assert metadata["Version"] == __version__


def test_there_is_one_version() -> None:
    """The build reads it from `_version.py`. The few files that cannot do so name the same one."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"] and "version" not in project["project"]
    assert re.findall(r"^## (\d\S+?),", (ROOT / "CHANGELOG.md").read_text(), re.M)[0] == __version__
    images = [
        tag
        for path in (ROOT / "deploy").rglob("*.y*ml")
        for tag in re.findall(r"image: ringback:(\S+)", path.read_text())
    ]
    assert images and set(images) == {__version__}
