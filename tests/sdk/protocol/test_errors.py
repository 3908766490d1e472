"""The tree of exceptions, and the table of codes and classes."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from ringback import errors
from ringback.errors import (
    ERROR_CLASSES,
    EXECUTED,
    REFUSED_CLASSES,
    BrokerUnreachable,
    CallbackError,
    CallTimeout,
    Code,
    HandlerError,
    IDTaken,
    LinkError,
    Refused,
    RejectCode,
    RingbackError,
    ServerTaken,
    Unauthorized,
    UnknownPlayer,
    UsageError,
    call_error,
    refused,
)


def test_the_table_is_complete() -> None:
    assert set(ERROR_CLASSES) == set(Code)
    classes = {
        error
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, CallbackError) and error is not CallbackError
    }
    assert set(ERROR_CLASSES.values()) == classes
    assert all(error.default_code is code for code, error in ERROR_CLASSES.items())


def test_the_repr_has_what_a_program_asks_for() -> None:
    own = CallbackError("it costs 12", code="TOO_POOR", data={"price": 12})
    assert repr(own) == "CallbackError('it costs 12', code='TOO_POOR', executed='yes')"
    assert repr(UnknownPlayer()) == "UnknownPlayer('', code='UNKNOWN_PLAYER', executed='no')"

    class Careless(CallbackError):
        def __init__(self, item: str) -> None:
            self.item = item

    assert repr(Careless("rope")) == "Careless('rope')"


@pytest.mark.parametrize("code", Code)
def test_each_code_says_whether_the_handler_ran(code: Code) -> None:
    expected = "no" if code < 20 else "maybe" if code < 30 else "yes"
    assert ERROR_CLASSES[code].default_executed == expected
    assert expected in EXECUTED


@pytest.mark.parametrize("code", Code)
def test_a_call_error_of_each_code(code: Code) -> None:
    error = call_error(int(code), "why", data=[1])
    assert type(error) is ERROR_CLASSES[code]
    assert (error.code, error.message, error.data) == (code, "why", [1])
    assert error.executed == ERROR_CLASSES[code].default_executed
    assert error.code_name == code.name
    assert str(error) == f"{code.name}: why"
    assert call_error(code, "why", "maybe").executed == "maybe"


def test_an_error_of_the_application() -> None:
    error = call_error("SOLD_OUT", "")
    assert type(error) is CallbackError
    assert (error.code, error.executed, error.data) == ("SOLD_OUT", "yes", None)
    assert str(error) == error.code_name == "SOLD_OUT"
    assert call_error("UNKNOWN_PLAYER", "").code == "UNKNOWN_PLAYER"
    assert CallbackError().code == "APPLICATION_ERROR"


def test_a_subclass_of_the_application() -> None:
    class SoldOut(CallbackError):
        default_code = "SOLD_OUT"
        default_executed = "no"

    error = SoldOut("no bread")
    assert (error.code, error.executed, str(error)) == ("SOLD_OUT", "no", "SOLD_OUT: no bread")


@pytest.mark.parametrize(
    ("arguments", "kind", "why"),
    [
        ({"code": 5}, TypeError, "a Code, or a str of 1 to 64 characters, not int"),
        ({"code": True}, TypeError, "not bool"),
        ({"code": b"X"}, TypeError, "not bytes"),
        ({"code": RejectCode.FULL}, TypeError, "not RejectCode"),
        ({"code": ""}, ValueError, "a Code, or a str of 1 to 64 characters, not one of 0"),
        ({"code": "X" * 65}, ValueError, "not one of 65"),
        ({"code": "\ud800"}, ValueError, "without lone surrogates"),
        ({"message": None}, TypeError, "the message of an error must be a str, not NoneType"),
        ({"message": KeyError("x")}, TypeError, "must be a str, not KeyError"),
        ({"executed": "perhaps"}, ValueError, "executed must be 'no', 'maybe' or 'yes', not 'perhaps'"),
        ({"executed": 2}, ValueError, "not 2"),
        ({"executed": []}, ValueError, r"not \[\]"),
    ],
)
def test_an_error_that_no_receiver_would_accept(
    arguments: dict[str, Any], kind: type[Exception], why: str
) -> None:
    """It is refused where the program makes it, not when the reply is sent."""

    class SoldOut(CallbackError):
        pass

    for error in (CallbackError, SoldOut, UnknownPlayer):
        with pytest.raises(kind, match=why):
            error(**arguments)


def test_a_default_code_is_checked_too() -> None:
    class Numbered(CallbackError):
        default_code = 404  # type: ignore[assignment]

    with pytest.raises(TypeError, match="not int"):
        Numbered("not found")


def test_codes_that_receivers_accept() -> None:
    for code in (*Code, "X" * 64, "é" * 64, "ausverkauft: Größe"):
        error = CallbackError("why", code=code)
        assert error.code == code
        assert pickle.loads(pickle.dumps(error)).code == code


def test_an_unknown_number_is_not_a_code() -> None:
    with pytest.raises(ValueError, match="99"):
        call_error(99, "")


def test_families() -> None:
    assert issubclass(CallTimeout, TimeoutError)
    assert issubclass(BrokerUnreachable, ConnectionError)
    assert issubclass(UsageError, RuntimeError)
    for family in (CallbackError, LinkError, UsageError):
        assert issubclass(family, RingbackError)
    assert not issubclass(LinkError, CallbackError)
    assert not issubclass(CallbackError, LinkError)


@pytest.mark.parametrize("code", RejectCode)
def test_a_refusal_of_each_code(code: RejectCode) -> None:
    error = refused(code, "why")
    assert type(error) is REFUSED_CLASSES.get(code, Refused)
    assert (error.code, error.message, str(error)) == (code, "why", f"{code.name}: why")


def test_refusals_with_a_class_of_their_own() -> None:
    assert {
        RejectCode.ID_TAKEN: IDTaken,
        RejectCode.SERVER_TAKEN: ServerTaken,
        RejectCode.UNAUTHORIZED: Unauthorized,
        RejectCode.TOKEN_EXPIRED: Unauthorized,
        RejectCode.REVOKED: Unauthorized,
    } == REFUSED_CLASSES


@pytest.mark.parametrize(
    "error",
    [
        CallTimeout("late", executed="no", data={"a": 1}),
        HandlerError("boom"),
        UnknownPlayer("7"),
        CallbackError("x", code="OWN"),
        Refused(RejectCode.FULL, "full"),
        IDTaken(RejectCode.ID_TAKEN, "taken"),
        BrokerUnreachable("nobody"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_copy_and_pickle(error: RingbackError) -> None:
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_a_misspelt_argument_of_an_error() -> None:
    with pytest.raises(TypeError, match="did you mean 'code'"):
        CallbackError("why", cod="SOLD_OUT")
