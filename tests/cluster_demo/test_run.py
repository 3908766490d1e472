"""The demo with fewer players: what it prints, its verdict, and what it leaves behind."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster_demo.judging import CROWD, SERVER
from cluster_demo.realm import FAULTS
from support.harness import ROOT, Process, eventually

PATIENCE_S = 240.0
SMALL = ("-m", "cluster_demo.run", "--players", "30")


@contextmanager
def demo(folder: Path, *options: str) -> Iterator[Process]:
    """Start the demo. Its temporary files are in a folder, and must be gone at the end."""
    folder.mkdir()
    with Process(*SMALL, *options, environment={"TMPDIR": str(folder)}) as process:
        yield process
    assert list(folder.iterdir()) == []


def wait(process: Process) -> tuple[int, str]:
    """Wait for the end. Return the exit code and the output."""
    code = process.wait(PATIENCE_S)
    return code, "\n".join(process.output())


def processes_below(pid: int) -> dict[int, str]:
    """Return the command lines of the processes that a process and those have started, by their IDs."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found[int(path.name)] = (path / "cmdline").read_text().replace("\0", " ")
                found |= processes_below(int(path.name))
        except OSError:  # it has ended
            continue
    return found


def is_running(pid: int, command: str) -> bool:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") == command
    except OSError:
        return False


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_the_whole_demo(tmp_path: Path) -> None:
    with demo(tmp_path / "files") as process:
        code, output = wait(process)
    assert code == 0, output
    assert output.count(": kept\n") == len(FAULTS) and "NOT KEPT" not in output
    for fault in (
        r"n\d is killed, the server of NATS that leads\.\n  \d+ players at node [abc], as the server is +no",
        r"Node [abc] is killed\.\n(  \d+ players at node [abc] .*\n)+  promised",
        r"Node [abc] is killed, where the server is\.\n(  .*\n)+  server \d +acts, at node [abc]\n",
        r"Server \d is killed, which acts at node [abc]\.\n  30 players at all nodes .*\n  server \d +acts",
        r"A process with 10 players is killed\.\n(  .*\n)+  the process +is started again, and its",
        r"\d+ calls were made\. \d+ got their result, \d+ an error\.\n\nEverything is as scale\.md promises",
    ):
        assert re.search(fault, output), f"{fault}\n{output}"


@pytest.mark.faults
@pytest.mark.timeout(300)
def test_a_promise_that_cannot_be_kept(tmp_path: Path) -> None:
    """Nothing is known after no time at all."""
    text = (ROOT / "docs" / "scale.md").read_text()
    row = f"| {CROWD} | those of other players go on | the server knows that they left | 5 s |"
    assert row in text
    document = tmp_path / "promises.md"
    document.write_text(text.replace(row, row.replace("5 s", "0.0001 s")))
    faults = ("--fault", SERVER, "--fault", CROWD)
    with demo(tmp_path / "files", "--promises", str(document), *faults) as process:
        code, output = wait(process)
    assert code == 1, output
    assert output.count(": NOT KEPT\n") == 1 and output.count(": kept\n") == 1
    last = output[output.index("DIFFERENT from what promises.md promises") :]
    late = r"\n  a process of players: the server knows that they left: after \d\.\d s, and should within"
    assert re.search(late, last), output


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("line", ["Calls go both ways", None], ids=["later", "early"])
def test_whoever_stops_it_finds_nothing_left_behind(tmp_path: Path, number: int, line: str | None) -> None:
    """Early: while its parts start. Also if it is stopped a second time."""
    with demo(tmp_path / "files") as process:
        if line is not None:
            process.wait_for(line)
        eventually(
            lambda: len(processes_below(process.popen.pid)) >= (1 if line is None else 12), "it starts"
        )
        started = processes_below(process.popen.pid)
        process.signal(number)
        process.signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) in (128 + number, 128 + signal.SIGINT)
        assert process.output()[-1] == "stopped"
        assert not [command for pid, command in started.items() if is_running(pid, command)]


def test_a_document_that_promises_nothing(tmp_path: Path) -> None:
    document = tmp_path / "empty.md"
    document.write_text("# Nothing\n")
    with demo(tmp_path / "files", "--promises", str(document)) as process:
        code, output = wait(process)
    assert code == 2 and output.startswith("UNEXPECTED: no row after <!-- make cluster-demo --> says: ")
