"""Run each target with the golden bytes and with its corpus, so that a failure that was fixed stays fixed."""

from __future__ import annotations

import pytest
from fuzz.targets import TARGETS, corpus, seeds


@pytest.mark.parametrize("target", TARGETS)
def test_seeds_and_corpus(target: str) -> None:
    files = corpus(target)
    for code in seeds(target):
        TARGETS[target](code)
    for path in files:
        try:
            TARGETS[target](path.read_bytes())
        except BaseException as error:
            error.add_note(f"to repeat it: python tests/fuzz/fuzz.py {target} {path}")
            raise
    print(f"{target}: {len(files)} files of the corpus, {len(seeds(target))} golden inputs")


def test_every_target_accepts_short_inputs() -> None:
    """All inputs of one byte, and some of three bytes. A target itself must not fail."""
    for target in TARGETS.values():
        target(b"")
        for first in range(256):
            target(bytes((first,)))
            target(bytes((first, 255 - first, first // 3)))
