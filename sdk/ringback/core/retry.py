"""A retry: how often a program wants a call to be tried, and when."""

from __future__ import annotations

from dataclasses import dataclass

from ringback._argument_names import checks_names

MAX_DELAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Retry:
    """How a call is tried again.

    The delay before the second try is `first_delay`. It doubles with each further try, up to `longest_delay`,
    and has a random factor of 0.5 to 1. After RATE_LIMITED it is at least `retry_after`. A try that would
    come after the call's deadline is not made.

    Attributes:
        attempts: how many tries there may be in all. Time without a link to the broker does not count.
        first_delay: in seconds, at most a day.
        longest_delay: in seconds, at most a day.
    """

    attempts: int = 20
    first_delay: float = 0.05
    longest_delay: float = 1.0

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ValueError(f"attempts must be an int above 0, not {self.attempts!r}")
        for name in ("first_delay", "longest_delay"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value <= MAX_DELAY_S:
                allowed = f"a number of seconds above 0 and at most {MAX_DELAY_S:g}"
                raise ValueError(f"{name} must be {allowed}, not {value!r:.40}")


Retry.__init__ = checks_names(Retry.__init__)  # type: ignore[method-assign]  # the one that dataclass makes
