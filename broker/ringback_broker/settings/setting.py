"""One setting of the schema, and how its values are checked."""

from __future__ import annotations

from typing import Any, Literal, get_args, get_origin

from ringback_broker.settings.kinds import BOUNDS, About, Kind


class InvalidSetting(ValueError):
    """A setting of the broker is wrong.

    Args:
        setting: its name.
        reason: what is wrong, and what is allowed.
    """

    def __init__(self, setting: str, reason: str) -> None:
        super().__init__(f"{setting}: {reason}")
        self.setting = setting
        self.reason = reason


JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string"}

_FLAGS: dict[str, bool] = {
    **dict.fromkeys(("1", "on", "t", "true", "y", "yes"), True),
    **dict.fromkeys(("0", "f", "false", "n", "no", "off"), False),
}
"""What a bool may be called in the environment."""


class Setting:
    """One setting of the schema.

    Attributes:
        name: its name in a file.
        option, variable: its name on the command line and in the environment.
        type: bool, int, float or str.
        kind, about: what users are told about it.
        choices: the allowed values, if they are a few words.
        default: its value if no source sets it.
    """

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name = name
        self.default = default
        self.kind: Kind = next(item for item in hint.__metadata__ if isinstance(item, Kind))
        self.about: About = next(item for item in hint.__metadata__ if isinstance(item, About))
        declared = hint.__origin__
        self.choices = get_args(declared) if get_origin(declared) is Literal else ()
        self.type: type = declared if isinstance(declared, type) else str  # else choices, or `str | None`
        self.option = "--" + name.replace("_", "-")
        self.variable = self.about.environment or f"RINGBACK_{name.upper()}"

    def check(self, value: Any, *, text: bool = False) -> Any:
        """Return a value in its normal form.

        Args:
            text: whether the value may be a text that stands for it, from the environment or an option.

        Raises:
            InvalidSetting: the value is not allowed.
        """
        if value is None and self.default is None:
            return None
        try:
            checked = self._from_text(value) if text and isinstance(value, str) else self._from_value(value)
        except (ValueError, OverflowError):  # no number, or one that no float can hold
            checked = None
        if (
            checked is None
            or (self.choices and checked not in self.choices)
            or not all(BOUNDS[word](checked, bound) for word, bound in self.kind.bounds.items())
        ):
            raise InvalidSetting(self.name, f"{self.kind.allowed} is allowed, not {value!r}")
        if self.kind.check is not None:
            try:
                return self.kind.check(checked)
            except ValueError as error:
                raise InvalidSetting(self.name, str(error)) from None
        return checked

    def _from_text(self, text: str) -> Any:
        return _FLAGS.get(text.strip().lower()) if self.type is bool else self.type(text)

    def _from_value(self, value: Any) -> Any:
        if self.type is float and type(value) is int:
            return float(value)
        return value if type(value) is self.type else None
