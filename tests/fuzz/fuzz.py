"""Run the fuzz targets with atheris, a coverage-guided fuzzer, or run them once with the bytes of a file.

    python tests/fuzz/fuzz.py envelopes --seconds 60     fuzz a target; all targets without a name
    python tests/fuzz/fuzz.py envelopes FILE             run once without a fuzzer, to repeat a failure

A run begins with the golden bytes, tests/fuzz/corpus and the inputs in .fuzz, which earlier runs have found.
It adds new inputs to .fuzz. `--keep` copies a few of them, which cover the most, to tests/fuzz/corpus.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
GROWN = ROOT / ".fuzz"
KEPT = Path(__file__).parent / "corpus"
KEPT_FILES, KEPT_BYTES = 40, 20_000
"""The limits of the corpus of each target. If there are more files, it keeps some of each size."""

NAMES = ("frames", "envelopes", "addresses", "switchboard", "endpoint", "realm")
_RUN = re.compile(r"stat::number_of_executed_units:\s*(\d+)")
_COVERED = re.compile(r"cov: (\d+) ft: (\d+) corp: (\d+)")
_OPTIONS = ("-max_len=4096", "-timeout=25", "-rss_limit_mb=2048", "-print_final_stats=1")


def write_seeds(target: str, folder: Path) -> None:
    """Write the first inputs of a target into a folder, with the names that libFuzzer would choose."""
    from targets import corpus, seeds

    for code in [*seeds(target), *(path.read_bytes() for path in corpus(target))]:
        (folder / hashlib.sha1(code).hexdigest()).write_bytes(code)


def libfuzzer(target: str, *arguments: str) -> tuple[int, str]:
    """Run atheris in a process of its own, because it ends its process. Return exit code and log."""
    done = subprocess.run(
        [sys.executable, __file__, target, "--inside", *_OPTIONS, *arguments],
        stdout=subprocess.PIPE,  # atheris writes the traceback here
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def run(target: str, seconds: int) -> bool:
    """Fuzz a target for some time. Return whether no failure was found."""
    found, crashes = GROWN / "corpus" / target, GROWN / "crashes" / target
    for folder in (found, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as begin:
        write_seeds(target, Path(begin))
        code, log = libfuzzer(
            target, f"-max_total_time={seconds}", f"-artifact_prefix={crashes}/", str(found), begin
        )
    units, covered = _RUN.findall(log), _COVERED.findall(log)
    edges, _, files = covered[-1] if covered else ("?", "?", "?")
    ran = int(units[-1]) if units else 0
    print(f"{target}: {ran:,} inputs run, {edges} edges covered, {files} files in the corpus", flush=True)
    if code == 0:
        return True
    print(log[-6000:])
    for path in sorted(crashes.iterdir()):
        print(f"{target}: found a failure; to repeat it: python tests/fuzz/fuzz.py {target} {path}")
    return False


def keep(target: str) -> None:
    """Write the corpus of a target again. Each file covers something that smaller ones do not."""
    with tempfile.TemporaryDirectory() as begin, tempfile.TemporaryDirectory() as merged:
        write_seeds(target, Path(begin))
        found = GROWN / "corpus" / target
        found.mkdir(parents=True, exist_ok=True)
        # Without counters, a file is kept only for a branch that no other file takes.
        code, log = libfuzzer(target, "-merge=1", "-use_counters=0", merged, begin, str(found))
        if code:
            raise SystemExit(log[-3000:])
        from targets import seeds

        golden = set(seeds(target))
        shutil.rmtree(KEPT / target, ignore_errors=True)
        (KEPT / target).mkdir(parents=True)
        room = KEPT_BYTES
        files = [path for path in Path(merged).iterdir() if path.read_bytes() not in golden]
        files.sort(key=lambda path: (path.stat().st_size, path.name))
        for path in files[:: -(-len(files) // KEPT_FILES) or 1]:
            room -= path.stat().st_size
            if room >= 0:
                shutil.copy(path, KEPT / target / path.name)
    print(f"{target}: {len(list((KEPT / target).iterdir()))} files, {KEPT_BYTES - max(room, 0):,} bytes kept")


def inside(target: str, arguments: list[str]) -> None:
    """Run atheris in this process. This does not return."""
    import atheris

    with atheris.instrument_imports(include=["ringback", "ringback_broker"]):
        import targets
    # To merge, libFuzzer runs the first argument in a shell, again and again, with other options.
    again = f"{sys.executable} {__file__} {target} --inside"
    atheris.Setup([again, *arguments], targets.TARGETS[target])
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("target", nargs="?", choices=NAMES)
    parser.add_argument("files", nargs="*", type=Path, help="run these inputs once")
    parser.add_argument("--seconds", type=int, default=60, help="seconds for each target")
    parser.add_argument("--keep", action="store_true", help="write tests/fuzz/corpus again")
    options = parser.parse_args()
    if options.files:
        from targets import TARGETS

        for path in options.files:
            TARGETS[options.target](path.read_bytes())
        print(f"{options.target}: {len(options.files)} inputs run, nothing found")
        return 0
    if importlib.util.find_spec("atheris") is None:
        print("skipped: atheris is not installed (pip install -e '.[fuzz]')")
        return 0
    names = NAMES if options.target is None else (options.target,)
    if options.keep:
        for name in names:
            keep(name)
        return 0
    fine = [run(name, options.seconds) for name in names]
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests")]
    if sys.argv[2:3] == ["--inside"]:
        inside(sys.argv[1], sys.argv[3:])
    sys.exit(main())
