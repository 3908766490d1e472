"""A terminal for a program that draws on the whole screen and reads single keys."""

from __future__ import annotations

import codecs
import os
import re
import selectors
import signal
import socket
import sys
import termios
import tty
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from io import TextIOWrapper
from types import FrameType
from typing import Self

from rich.console import Console, ConsoleDimensions, Group
from rich.live import Live
from rich.text import Text

_READ_BYTES = 1024
_SEQUENCE = re.compile(r"\x1b\[\[[A-E]|\x1b\[[0-9;]*[ -/]*[@-~]|\x1bO[@-~]|.", re.DOTALL)
"""One key: a character or an escape sequence (ECMA-48, section 5.4; the Linux console; SS3 and a letter)."""

_SENT = {
    "up": ("\x1b[A", "\x1bOA"),
    "down": ("\x1b[B", "\x1bOB"),
    "home": ("\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~"),
    "end": ("\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~"),
    "pageup": ("\x1b[5~",),
    "pagedown": ("\x1b[6~",),
    "f1": ("\x1bOP", "\x1b[11~", "\x1b[[A"),
    "f4": ("\x1bOS", "\x1b[14~", "\x1b[[D"),
    "f6": ("\x1b[17~",),
    "f10": ("\x1b[21~",),
    "escape": ("\x1b",),
    "enter": ("\r", "\n"),
    "backspace": ("\x7f", "\b"),
}
"""What xterm, rxvt and the Linux console send for each key."""

_NAMES = {sequence: name for name, sequences in _SENT.items() for sequence in sequences}

_SIGNALS = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),  # these end the process
    *(signal.SIGTSTP, signal.SIGWINCH),
)


def keys_in(text: str) -> list[str]:
    """Return the keys in what a terminal sent: characters, and names of other keys. Skip unknown keys."""
    named = [_NAMES.get(sequence) or sequence for sequence in _SEQUENCE.findall(text)]
    return [name for name in named if not name.startswith("\x1b")]


class Terminal:
    """The terminal of this process, for a `with` block in the main thread.

    At the end of the block, the terminal is as it was before, whatever ended it. `keys` raises the signals
    that end the process: Ctrl-C as KeyboardInterrupt; SIGTERM, SIGHUP and SIGQUIT as SystemExit with 128 and
    the signal's number. Ctrl-Z gives the terminal back and stops the process; `fg` continues it.
    """

    def __enter__(self) -> Self:
        self._fd = sys.stdin.fileno()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        assert isinstance(sys.stdout, TextIOWrapper)  # it is a terminal
        sys.stdout.reconfigure(encoding="utf-8")  # whatever the locale, as `print_line` does
        self._console = Console(highlight=False, markup=False, emoji=False)
        self._signals: set[int] = set()
        with ExitStack() as stack:
            self._woken, self._waker = socket.socketpair()
            for end in (self._woken, self._waker):
                stack.callback(end.close)
                end.setblocking(False)
            self._selector = stack.enter_context(selectors.DefaultSelector())
            for source in (self._fd, self._woken):
                self._selector.register(source, selectors.EVENT_READ)
            wakes = signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
            stack.callback(signal.set_wakeup_fd, wakes)
            for number in _SIGNALS:
                stack.callback(signal.signal, number, signal.signal(number, self._note))
            stack.callback(self._end)
            self._begin()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def size(self) -> tuple[int, int]:
        """The columns and lines that there are now. The variable COLUMNS may have an old number."""
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
        self._console.size = ConsoleDimensions(columns or 80, lines or 24)
        return self._console.size

    def wake(self) -> None:
        """Make `keys` return. Any thread may call this."""
        with suppress(OSError):  # full, so that it wakes anyway, or closed
            self._waker.send(b"\0")

    def draw(self, lines: Sequence[tuple[str, str, Sequence[tuple[int, int, str]]]]) -> None:
        """Show lines from the top: each a text, its style in the terms of rich, and parts with others."""
        texts = []
        for text, style, spans in lines:
            texts.append(Text(text, style=style, no_wrap=True, overflow="crop"))
            for start, end, its_own in spans:
                texts[-1].stylize(its_own, start, end)
        self._live.update(Group(*texts), refresh=True)

    def keys(self, timeout_s: float) -> list[str]:
        """Wait for keys, a signal or `wake`, and return the keys.

        Args:
            timeout_s: how long to wait at most, in seconds.

        Raises:
            KeyboardInterrupt, SystemExit: a signal ends the process, or the terminal is gone.
        """
        ready = {key.fileobj for key, _ in self._selector.select(timeout_s)}
        if self._woken in ready:
            with suppress(BlockingIOError):
                self._woken.recv(_READ_BYTES)
        self._obey_signals()
        if self._fd not in ready:
            return []
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise SystemExit(128 + signal.SIGHUP)
        return keys_in(self._decoder.decode(data))

    def _note(self, number: int, _: FrameType | None) -> None:
        self._signals.add(number)

    def _obey_signals(self) -> None:
        """Obey the signals that have come. It is called between two screens, so drawing is never cut off."""
        noted, self._signals = self._signals, set()
        if signal.SIGINT in noted:
            raise KeyboardInterrupt
        for number in noted - {signal.SIGTSTP, signal.SIGWINCH}:
            raise SystemExit(128 + number)
        if signal.SIGTSTP in noted:
            self._end()
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)  # SIGCONT continues here
            signal.signal(signal.SIGTSTP, self._note)
            self._begin()

    def _begin(self) -> None:
        self._settings = termios.tcgetattr(self._fd)
        self._live = Live(
            console=self._console,
            screen=True,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        tty.setcbreak(self._fd)
        self._live.start()

    def _end(self) -> None:
        try:
            with suppress(OSError):
                self._live.stop()
        finally:
            with suppress(termios.error):
                termios.tcsetattr(self._fd, termios.TCSADRAIN, self._settings)
