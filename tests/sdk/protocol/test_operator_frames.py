"""What an operator asks: a wrong subject."""

from __future__ import annotations

import pytest

from ringback.protocol.operator_frames import Subject, check_subject


@pytest.mark.parametrize("subject", Subject)
def test_each_subject(subject: Subject) -> None:
    assert check_subject(subject.value) is subject


def test_a_subject_that_there_is_not() -> None:
    with pytest.raises(ValueError, match=r"players, .* or \w+, not 'player': did you mean 'players'\?"):
        check_subject("player")
    with pytest.raises(ValueError, match=r"not 'xyzzy'$"):
        check_subject("xyzzy")
    with pytest.raises(TypeError, match="subject must be a str, not int"):
        check_subject(7)
