"""The tree of exceptions, and the table of codes and classes."""

from __future__ import annotations

import copy
import pickle

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
