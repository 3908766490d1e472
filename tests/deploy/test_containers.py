"""The files for containers: a broker accepts their settings, and their health check works."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.harness import BrokerProcess
from support.keyring import KeyRing

from ringback import Player
from ringback_broker.daemon.settings_file import read_settings
from ringback_cli.exits import Exit

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
DOCKERFILE = DEPLOY / "docker" / "Dockerfile"
MANIFEST = DEPLOY / "kubernetes" / "ringback.yaml"


def manifest() -> dict[str, Any]:
    """Return the objects of the manifest by kind. Of several services, return the last one."""
    return {found["kind"]: found for found in yaml.safe_load_all(MANIFEST.read_text())}


def settings_of_docker() -> str:
    return (DEPLOY / "docker" / "ringback.toml").read_text()


def settings_of_kubernetes() -> str:
    text: str = manifest()["ConfigMap"]["data"]["ringback.toml"]
    return text


def health_check(port: str) -> list[str]:
    """Return the command of the image's health check, for a broker at this port."""
    found = re.search(r"^HEALTHCHECK .*\\\n +CMD (\[.*\])$", DOCKERFILE.read_text(), re.MULTILINE)
    assert found is not None
    command: list[str] = json.loads(found[1])
    assert command[0] == "python" and ":5772/" in command[2]
    return [sys.executable, *command[1:-1], command[-1].replace(":5772/", f":{port}/")]


@pytest.mark.parametrize("settings", [settings_of_docker, settings_of_kubernetes])
def test_a_broker_accepts_the_settings(tmp_path: Path, settings: Callable[[], str]) -> None:
    """The broker has its key files in another folder, and free ports."""
    text = settings()
    ring = KeyRing(tmp_path)
    anna = ring.add("anna", "player", 7)
    (tmp_path / "http.token").write_text("a token of enough characters\n")
    path = tmp_path / "ringback.toml"
    path.write_text(re.sub(r'"/?keys/', f'"{tmp_path}/', re.sub(r":577\d\"", ':0"', text)))
    options = ("--config", str(path))
    with BrokerProcess("tcp://0.0.0.0:0", "tcp://0.0.0.0:0", options) as broker:
        (ready,) = [json.loads(line) for line in broker.process.lines if "ready players" in line]
        port = re.search(r"http=http://0\.0\.0\.0:(\d+)", ready["message"])
        assert port is not None
        with Player(broker.players.replace("0.0.0.0", "127.0.0.1"), key_file=anna) as player:
            assert player.player_id == 7
            done = subprocess.run(health_check(port[1]), capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
        broker.process.signal(signal.SIGTERM)
        assert broker.process.wait() == Exit.OK
    assert subprocess.run(health_check(port[1]), capture_output=True, check=False).returncode == 1


def test_ports_and_stop_times_agree(tmp_path: Path) -> None:
    for text in (settings_of_docker(), settings_of_kubernetes()):
        path = tmp_path / "ringback.toml"
        path.write_text(text)
        settings = read_settings(str(path)).settings
        assert settings.players.endswith(":5770") and settings.backend.endswith(":5771")
        assert settings.http is not None and settings.http.endswith(":5772")
        pod = manifest()["Deployment"]["spec"]["template"]["spec"]
        compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())["services"]["broker"]
        assert settings.grace < pod["terminationGracePeriodSeconds"]
        assert settings.grace < int(compose["stop_grace_period"].removesuffix("s"))
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert ports == {"players": 5770, "backend": 5771, "http": 5772}
    assert "EXPOSE 5770 5771 5772" in DOCKERFILE.read_text()


def test_compose_mounts_files_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
    for service in compose["services"].values():
        for volume in service.get("volumes", []):
            source = DEPLOY / "docker" / volume.split(":")[0]
            assert source.exists() or "keys" in source.parts, source
        for port in service["ports"]:
            assert port == "5770:5770" or port.startswith("127.0.0.1:")  # only the players' port is public


def test_the_image_has_its_own_user() -> None:
    text = DOCKERFILE.read_text()
    assert re.search(r"^USER (?!0)\d+:\d+$", text, re.MULTILINE) and "STOPSIGNAL SIGTERM" in text
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    allowed = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    assert {f"!{name}" for line in copied for name in line.split()} <= set(allowed)


def tool(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def test_hadolint_accepts_the_dockerfile() -> None:
    done = subprocess.run([tool("hadolint"), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", ["compose.yaml", "realm.compose.yaml"])
def test_the_compose_files_are_valid(name: str) -> None:
    arguments = [tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*arguments, str(DEPLOY / "docker" / name)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_manifest_is_valid() -> None:
    arguments = [tool("kubernetes-validate"), "--strict", str(MANIFEST)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
