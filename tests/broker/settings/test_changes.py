"""What a reload may change."""

from __future__ import annotations

from ringback_broker.settings.changes import change
from ringback_broker.settings.schema import BrokerSettings


def test_some_settings_change_while_the_broker_runs() -> None:
    old = BrokerSettings(lease=60, grace=5)
    found = change(old, BrokerSettings(lease=30, grace=6, max_players=7))
    settings = found.settings
    assert (settings.lease, settings.grace, settings.max_players) == (60.0, 6.0, 7)
    assert found.taken == ["grace 5.0 -> 6.0", "max_players 16000 -> 7"]
    assert found.waiting == ["lease 60.0 -> 30.0"]


def test_the_same_settings_change_nothing() -> None:
    old = BrokerSettings()
    nothing = change(old, old)
    assert (nothing.settings, nothing.taken, nothing.waiting) == (old, [], [])
