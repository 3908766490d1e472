"""What a reload may change while the broker runs."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ringback_broker.settings.schema import SETTINGS, BrokerSettings


@dataclass(frozen=True)
class Change:
    """What follows from settings that were read again.

    Attributes:
        settings: what holds from now on.
        taken: the settings that change now, as `grace 5.0 -> 6.0`.
        waiting: the settings that change when the broker is restarted.
    """

    settings: BrokerSettings
    taken: list[str]
    waiting: list[str]


def change(old: BrokerSettings, new: BrokerSettings) -> Change:
    """Return what a running broker takes of new settings."""
    taken, waiting, values = [], [], {}
    for name, setting in SETTINGS.items():
        before, after = getattr(old, name), getattr(new, name)
        if before == after:
            continue
        text = f"{name} {before} -> {after}"
        if setting.about.reloads:
            taken.append(text)
            values[name] = after
        else:
            waiting.append(text)
    return Change(replace(old, **values), taken, waiting)
