"""The keys in what a terminal sends."""

from __future__ import annotations

from ringback_cli.terminal import keys_in


def test_keys_of_a_terminal() -> None:
    assert keys_in("q\x1b[A\x1bOB\x1b[5~\x1b[6~ä\x1b[21~\x1bOP\x1b[[A\x1b[17~\x1b") == [
        *("q", "up", "down", "pageup", "pagedown", "ä", "f10", "f1", "f1", "f6", "escape")
    ]
    assert keys_in("\x1b[1;5C\x1b[Z\x1bOxa") == ["a"]  # unknown keys are skipped
    assert keys_in("\r\n\x7f\b\t") == ["enter", "enter", "backspace", "backspace", "\t"]
