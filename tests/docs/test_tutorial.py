"""The tutorial, followed from an empty folder: each program, command and output is as its pages say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.harness import PATIENCE_S, ROOT
from support.pages import Block, Walk, blocks

from ringback import Player, Server

pytestmark = pytest.mark.timeout(20 * PATIENCE_S)  # many programs, one after the other

FOLDER = ROOT / "docs" / "tutorial"
PAGES = [FOLDER / "index.md", *sorted(FOLDER.glob("[0-9]*.md"))]
FINISHED = ROOT / "examples" / "tutorial"


class Tutorial(Walk):
    """The folder of the game. The second machine is a folder in it."""

    def step(self, block: Block) -> None:
        if block.note == "another way":
            return  # a test of its own runs it
        if block.note.startswith("on the second machine"):
            here, self.folder = self.folder, self.folder / "second"
            self.folder.mkdir(exist_ok=True)
            shutil.copy(here / "broker.pub", self.folder)  # "copy broker.pub from the first machine"
            note = block.note.removeprefix("on the second machine").removeprefix(", ")
            super().step(Block(note, block.language, block.text))
            self.folder = here
            if (there := here / "second" / "anna.pub").exists():
                there.rename(here / "anna.pub")  # "copy anna.pub to the first machine"
        else:
            super().step(block)


@pytest.fixture
def tutorial(tmp_path: Path) -> Iterator[Tutorial]:
    with Tutorial(tmp_path / "gold") as walk:
        yield walk


def write_all(tutorial: Tutorial) -> None:
    """Write all files of the tutorial but those with keys, without running anything."""
    for page in PAGES[:-1]:
        for block in blocks(page.read_text()):
            if block.note.split(": ")[0] in ("file", "add to", "replace buy in"):
                tutorial.step(block)


def with_buy(tutorial: Tutorial, text: str, imports: str = "") -> None:
    """Write another `buy` into the game."""
    tutorial.write("replace buy in", "game.py", text)
    game = tutorial.folder / "game.py"
    game.write_text(game.read_text().replace("from ringback", imports + "from ringback", 1))


def block_of(page: str, note: str) -> str:
    """Return the block with `buy` that has this comment."""
    [text] = [found.text for found in blocks((FOLDER / page).read_text()) if found.note == note]
    return text[text.index('    @server.register_server_callback("gold:buy")') :]


def cheat(tutorial: Tutorial) -> str:
    """Cheat the game as it is now, and return what the cheat prints."""
    tutorial.start("broker", "ringback broker", "")
    tutorial.running["broker"].wait_for("ready players=")
    tutorial.start("server", "python server.py", "the game has begun\n")
    code, printed = tutorial.shell("python cheat.py")
    assert code == 0, printed
    return printed


@pytest.mark.slow
def test_the_tutorial(tutorial: Tutorial) -> None:
    for page in PAGES:
        tutorial.follow(page.read_text())
    assert tutorial.read == ["it needs a network"]
    programs = [path for path in tutorial.folder.rglob("*") if path.suffix in (".py", ".ini")]
    written = {path.name: tutorial.shown(path.read_text()) for path in programs}
    assert written == {path.name: path.read_text() for path in FINISHED.iterdir() if path.is_file()}


def test_the_tests_find_the_mistake(tutorial: Tutorial) -> None:
    write_all(tutorial)
    with_buy(tutorial, block_of("3-errors.md", "add to: game.py"))
    code, printed = tutorial.shell("pytest -q")
    assert code == 1 and "1 failed, 8 passed" in printed, printed
    assert "test_nobody_buys_with_the_same_gold_twice" in printed


def test_a_lock_for_each_player_stops_the_cheat_too(tutorial: Tutorial) -> None:
    write_all(tutorial)
    page = (FOLDER / "4-state.md").read_text()
    [lock] = [found.text for found in blocks(page) if found.note == "another way"]
    with_buy(tutorial, lock, "import asyncio\nfrom collections import defaultdict\n\n")
    assert "the purse: {'gold': 14, 'shovels': 1}" in cheat(tutorial)


def test_programs_whose_place_is_taken_say_so_in_one_line(tutorial: Tutorial) -> None:
    write_all(tutorial)
    tutorial.start("broker", "ringback broker", "")
    tutorial.running["broker"].wait_for("ready players=")
    with ExitStack() as others:
        others.enter_context(Server(tutorial.backend))
        for player_id in (50, 101, 102, 103):  # 50 is one of the bots
            others.enter_context(Player(tutorial.players, player_id))
        for name, reason in {
            "server": "SERVER_TAKEN: the broker at tcp://127.0.0.1:5771 refuses: another server is connected",
            "bots": taken(50),
            "errors": taken(101),
            "miner": taken(102),
            "cheat": taken(103),
        }.items():
            assert tutorial.shell(f"python {name}.py") == (1, f"{reason}\n")


def taken(player_id: int) -> str:
    what = f"another player with the ID {player_id} is connected"
    return f"ID_TAKEN: the broker at tcp://127.0.0.1:5770 refuses: {what}"
