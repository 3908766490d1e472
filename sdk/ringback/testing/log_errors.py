"""Errors that ringback logs during a test: exceptions of handlers and callbacks, and faults of ringback."""

from __future__ import annotations

import logging
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from ringback._runtime.log import folding
from ringback.errors import HandlerError, reason_of
from ringback.testing.waiting import PATIENCE_S, Changes

LOGGERS = ("ringback.sdk", "ringback.broker")

MAX_ERRORS = 100
"""Errors of one test that are kept: the first ones."""


class LoggedError(Exception):
    """Ringback logged an error without an exception."""


class HiddenErrorsWarning(UserWarning):
    """The program under test has switched a logger of ringback off."""


class _Error:
    """One error that was logged."""

    def __init__(self, record: logging.LogRecord) -> None:
        self.text = record.getMessage()
        info = record.exc_info
        logged = info[1] if isinstance(info, tuple) else None
        self.exception: BaseException = LoggedError(self.text) if logged is None else logged
        if logged is not None:
            with suppress(Exception):  # a class of the program may raise, also when it is asked for its notes
                if self.text not in getattr(logged, "__notes__", ()):
                    logged.add_note(self.text)


class _Expected:
    def __init__(self, kind: type[BaseException], match: str) -> None:
        self.kind = kind
        self.match = match
        self.seen = False

    def takes(self, error: _Error) -> bool:
        return isinstance(error.exception, self.kind) and bool(
            re.search(self.match, f"{error.text}: {reason_of(error.exception)}")
        )

    def __str__(self) -> str:
        match = f" that matches {self.match!r}" if self.match else ""
        return f"{self.kind.__name__}{match}"


class Errors:
    """The errors that ringback has logged in this test. Those that the test does not expect fail it.

    Attributes:
        exceptions: the exceptions of all errors so far, expected or not. For an error without one, it is a
            `LoggedError`.
    """

    def __init__(self) -> None:
        self.exceptions: list[BaseException] = []
        self._unexpected: list[_Error] = []
        self._expected: list[_Expected] = []
        self._lock = threading.Lock()
        self._changes = Changes()

    def expect(self, kind: type[BaseException] = BaseException, *, match: str = "") -> None:
        """Let errors of a kind happen in this test, any number of them. If none happens, the test fails.

        Args:
            kind: the class of the exception; for an error that is logged without one, `LoggedError`.
            match: a regular expression for the line of the log, followed by the text of the exception. The
                line has the key of the callback: "server: the handler of 'shop:buy' failed for player 7".

        Raises:
            TypeError: `kind` is not the class of an exception, or `match` not a str.
            re.error: `match` is not a regular expression.
        """
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(
                f"kind must be the class of an exception, not {kind!r}; pass a text of the log as match="
            )
        if not isinstance(match, str):
            raise TypeError(f"match must be a str with a regular expression, not {type(match).__name__}")
        re.compile(match)
        expected = _Expected(kind, match)
        with self._lock:
            self._expected.append(expected)
            taken = [error for error in self._unexpected if expected.takes(error)]
            expected.seen = bool(taken)
            self._unexpected = [error for error in self._unexpected if error not in taken]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Take the errors that are logged while the context lasts. Not for users.

        Warn if the program hides them.
        """
        handler = _Handler(self)
        folding.reset()  # no line of another test hides an equal one of this test
        with ExitStack() as stack:
            stack.callback(folding.reset)
            loggers = [logging.getLogger(name) for name in LOGGERS]
            for logger in loggers:
                stack.enter_context(_let_errors_through(logger))
                logger.addHandler(handler)
                stack.callback(logger.removeHandler, handler)
            yield
            hidden = [logger.name for logger in loggers if not logger.isEnabledFor(logging.ERROR)]
        if hidden:
            text = (
                f"the program hid errors of {' and '.join(hidden)}, so they did not reach the test. Does it"
                " configure logging with disable_existing_loggers?"
            )
            warnings.warn(text, HiddenErrorsWarning, stacklevel=2)

    def take(self, record: logging.LogRecord) -> None:
        """Take an error that was logged. Any thread may call this. Not for users."""
        error = _Error(record)
        with self._lock:
            if len(self.exceptions) < MAX_ERRORS:
                self.exceptions.append(error.exception)
                expected = [expected for expected in self._expected if expected.takes(error)]
                if not expected:
                    self._unexpected.append(error)
                for one in expected:
                    one.seen = True
        self._changes.notify()

    def explain(self, failure: BaseException) -> None:
        """Show why a test failed: what a handler raised causes the HandlerError of its caller.

        Not for users. The plugin calls it.
        """
        unexpected, _ = self._take_all()
        if unexpected and isinstance(failure, HandlerError) and failure.__cause__ is None:
            failure.__cause__ = unexpected[0].exception

    def check(self) -> None:
        """Raise the errors that the test did not expect. If there are none, wait for those that it expected.

        A second time, raise what came after the first one.

        Raises:
            AssertionError: an error that the test expected did not happen.
        """
        if not self._unexpected:
            with suppress(TimeoutError):
                self._changes.wait(lambda: all(one.seen for one in self._expected), PATIENCE_S, str)
        unexpected, missing = self._take_all()
        exceptions = list({id(error.exception): error.exception for error in unexpected}.values())
        if len(exceptions) > 1:
            raise BaseExceptionGroup(f"ringback logged {len(exceptions)} errors", exceptions)
        if exceptions:
            __tracebackhide__ = exceptions[0].__traceback__ is not None
            raise exceptions[0]
        if missing:
            raise AssertionError(f"ringback logged no error: {', '.join(map(str, missing))}")

    def _take_all(self) -> tuple[list[_Error], list[_Expected]]:
        """Return what the test did not expect, and what it expected and did not get. Each only once."""
        with self._lock:
            unexpected, self._unexpected = self._unexpected, []
            missing = [one for one in self._expected if not one.seen]
            self._expected = [one for one in self._expected if one.seen]
        return unexpected, missing


@contextmanager
def _let_errors_through(logger: logging.Logger) -> Iterator[None]:
    """Let a logger take errors, although a configuration of before the test says that it takes none."""
    disabled, level = logger.disabled, logger.level
    logger.disabled = False
    if logger.getEffectiveLevel() > logging.ERROR:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.disabled = logger.disabled or disabled
        logger.setLevel(level)


class _Handler(logging.Handler):
    def __init__(self, errors: Errors) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        if not hasattr(record, "counts"):  # else it counts lines that are here already
            self._errors.take(record)
