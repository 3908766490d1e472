"""The how-to pages: their programs run, and their commands print what they show."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from support.faces import HereBroker
from support.harness import PATIENCE_S, ROOT, Process
from support.notebooks import kernel
from support.pages import Block, Walk, at, blocks, run_piece

from ringback import Operator

pytestmark = pytest.mark.timeout(10 * PATIENCE_S)  # many programs, one after the other

FOLDER = ROOT / "docs" / "how-to"
DOCKER = ROOT / "deploy" / "docker"


def page(name: str) -> str:
    return (FOLDER / name).read_text()


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    with Walk(tmp_path / "folder") as walk:
        yield walk


@pytest.fixture
def shop(walk: Walk) -> Iterator[Walk]:
    """Start the broker and the shop of the examples, and return a walk beside them."""
    walk.start("broker", "ringback broker", "")
    walk.prints("broker", walk.ready)
    examples = ROOT / "examples"
    with (
        Process(str(examples / "shop_server.py"), walk.backend, stdin=subprocess.PIPE) as server,
        Process(str(examples / "shop_player.py"), walk.players, "7", stdin=subprocess.PIPE) as player,
    ):
        server.wait_for("player 7 joined")
        player.wait_for("plays as 7")
        yield walk


@pytest.mark.parametrize("name", ["web-workers.md", "fork-and-gunicorn.md"])
def test_programs_beside_the_shop(shop: Walk, name: str) -> None:
    shop.follow(page(name))
    assert shop.read == []
    if name == "web-workers.md":  # the other page says that this works too
        shop.start("gunicorn", "gunicorn --preload flask_web:app", "")
        shop.running["gunicorn"].wait_for("Booting worker")
        shop.run("curl -s http://127.0.0.1:8000/items/tools", '{"lamp":30,"rope":12}')
        shop.stop("gunicorn")
    else:
        pool = (shop.folder / "pool.py").read_text()
        for way in ("spawn", "forkserver"):
            (shop.folder / "pool.py").write_text(pool.replace('"fork"', f'"{way}"'))
            shop.run("python pool.py", "[2, 2]")


def test_tokens_from_a_backend(walk: Walk) -> None:
    walk.follow(page("tokens-from-a-backend.md"))
    assert walk.read == []


def test_each_cell_prints_what_the_page_shows(tmp_path: Path) -> None:
    with HereBroker() as here, kernel(tmp_path) as run:
        printed = ""
        for block in blocks(page("jupyter.md")):
            if block.language == "text":
                assert printed == at(here, block.text)
                printed = ""
            else:
                assert printed == "", "the page does not show this"
                printed = run(at(here, block.text))


class Docker(Walk):
    """The folder of the files for Docker. A broker with their settings stands for the container."""

    def step(self, block: Block) -> None:
        if block.language == "yaml":
            return  # a test of its own checks it
        if block.text.startswith("cd deploy/docker\n"):
            shutil.copytree(DOCKER, self.folder / "deploy" / "docker")
            super().step(block)
            self.folder = self.folder / "deploy" / "docker"
        elif "docker compose up" in block.text:
            super().step(block)
            settings = self.folder / "ringback.toml"
            settings.write_text(self.at(settings.read_text()))
            self.start("broker", "ringback broker --config ringback.toml --log-format text", "")
            self.running["broker"].wait_for("ready players=")
        else:
            super().step(block)


def test_docker(tmp_path: Path) -> None:
    with Docker(tmp_path / "folder") as walk:
        walk.follow(page("docker.md"))
        assert walk.read == 2 * ["docker"]
    services = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"].values()
    published = {port.split(":")[-2] for service in services for port in service["ports"]}
    assert set(re.findall(r"127\.0\.0\.1:(\d+)", page("docker.md"))) <= published


def test_a_server_beside_the_broker_of_compose(tmp_path: Path) -> None:
    """The compose file is valid with the service of the page, and both are on one network."""
    [text] = [block.text for block in blocks(page("docker.md")) if block.language == "yaml"]
    compose = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    compose["services"] |= yaml.safe_load(text)["services"]
    (tmp_path / "compose.yaml").write_text(yaml.safe_dump(compose))
    check("check-jsonschema", "--builtin-schema", "vendor.compose-spec", str(tmp_path / "compose.yaml"))
    assert f"tcp://{next(iter(compose['services']))}:5771" in compose["services"]["game"]["command"]


def check(*command: str) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes(walk: Walk) -> None:
    """The keys of the page let its server in, and the manifests fit each other."""
    walk.follow(page("kubernetes.md"))
    assert walk.read == ["docker", *5 * ["a cluster"]]
    check("kubernetes-validate", "--strict", str(walk.folder / "game.yaml"))
    objects = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "ringback.yaml").read_text()))
    [manifest] = [block.text for block in blocks(page("kubernetes.md")) if block.language == "yaml"]
    pod = yaml.safe_load(manifest)["spec"]["template"]["spec"]
    arguments = pod["containers"][0]["args"]
    services = {one["metadata"]["name"] for one in objects if one["kind"] == "Service"}
    assert arguments[2].removeprefix("tcp://").removesuffix(":5771") in services

    walk.start("broker", "ringback broker --key-file broker.key --access access.toml", "")
    walk.prints("broker", walk.ready)
    with Operator(walk.backend, key_file=str(walk.folder / "console.key")) as operator:
        for number in ("1", "2"):
            walk.start(number, "python server.py tcp://127.0.0.1:5771 server.key", "ready\n")
        assert operator.trigger_callback("greet", 7).result() == "hello 7"
        for number in ("1", "2"):  # the first one hands over; there is no other one for the second
            walk.running[number].signal(signal.SIGTERM)
            assert walk.running[number].wait() == 0, walk.running[number].output()
            if number == "1":
                assert operator.trigger_callback("greet", 7).result() == "hello 7"


PORTING = [block.text for block in blocks(page("porting.md")) if block.language == "python"]


def test_each_framework_has_an_example() -> None:
    assert page("porting.md").count("```lua") == 4 and len(PORTING) == 5


@pytest.mark.parametrize("snippet", PORTING, ids=range(len(PORTING)))
def test_a_ported_script(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ported(snippet, monkeypatch)


LEAVING = """
import asyncio

from support.harness import PATIENCE_S

asked = asyncio.Event()


async def think(question):
    asked.set()
    await asyncio.Event().wait()


player.register_client_callback("garage:confirm", think)
player.trigger_server_callback("garage:take", {"garage": "legion", "plate": "46EEK572"}, on_error=print)
await asked.wait()
assert money == {7: 350} and vehicles["46EEK572"]["garage"] is None
await player.close()
async with asyncio.timeout(PATIENCE_S):
    while money != {7: 600} or vehicles["46EEK572"]["garage"] != "legion":
        await asyncio.sleep(0.01)
"""


def test_a_player_that_leaves_has_its_money_and_its_vehicle_back(monkeypatch: pytest.MonkeyPatch) -> None:
    [snippet] = [snippet for snippet in PORTING if '"garage:take"' in snippet]
    server, _, _ = snippet.partition("# The program with the player")
    run_ported(server + LEAVING, monkeypatch)


def run_ported(snippet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("ported")
    monkeypatch.setitem(sys.modules, "ported", module)
    with HereBroker() as here:
        run_piece(at(here, snippet), here, vars(module))
