"""What the core says of values that do not fit a type."""

from __future__ import annotations

from typing import Any

import pytest

from ringback.core.conversion import MAX_PATH_CHARS, Misfit, misfit_error, misfit_text, one_result, path_of
from ringback.errors import Code


class Order:
    """Stands for the converter of a type."""

    name = "Order"

    def read(self, value: Any) -> Any:
        raise NotImplementedError

    def write(self, value: Any) -> Any:
        raise NotImplementedError


def test_a_caller_is_told_where_a_value_is_wrong() -> None:
    error = misfit_error("payload", Order(), Misfit("Expected `int`, got `str`", "$.items[0].count"), "no")
    assert (error.code, error.executed) == (Code.INVALID_PAYLOAD, "no")
    assert error.data == {"path": "$.items[0].count"}
    assert error.message == "the payload does not fit Order: $.items[0].count: Expected `int`, got `str`"


def test_an_exception_of_a_user_s_class_is_about_the_whole_value() -> None:
    error = misfit_error("result", Order(), ZeroDivisionError("oh no"), "yes")
    assert (error.executed, error.data) == ("yes", {"path": "$"})
    assert error.message == misfit_text("result", Order(), ZeroDivisionError("oh no"))
    assert error.message.endswith("$: oh no")


def test_a_path_has_a_bound() -> None:
    """A caller may choose the keys in it."""
    assert (
        path_of(Misfit("wrong", "$" + ".x" * MAX_PATH_CHARS))
        == ("$" + ".x" * MAX_PATH_CHARS)[:MAX_PATH_CHARS]
    )


def test_a_callback_with_types_has_one_result() -> None:
    assert one_result(()) is None
    assert one_result((5,)) == 5
    with pytest.raises(Misfit, match="expected one result, got 2"):
        one_result((5, 6))
