"""The alerts and the dashboard name figures that there are, with labels and values that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.switchboards import FakeWire

from ringback.protocol.frames import Role
from ringback.protocol.reports import CLASSES, FAILURES
from ringback_broker.http.metrics import registry
from ringback_broker.operations.figures import Totals
from ringback_broker.operations.snapshot import Lags
from ringback_broker.settings.schema import BrokerSettings
from ringback_broker.switchboard.switchboard import Switchboard

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "prometheus" / "ringback.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "ringback.json"

METRIC = re.compile(r"\b((?:ringback|process)_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r'(\w+)\s*(=~|=|!=|!~)\s*"([^"]*)"')
OF_PROMETHEUS = {"instance", "job", "le"}


@pytest.fixture(scope="module")
def there() -> dict[str, dict[str, set[str]]]:
    """All figures of a broker: by name, the values of each label."""
    switchboard = Switchboard(BrokerSettings(), FakeWire())
    failed = dict.fromkeys(FAILURES, 1)
    totals = {("k", side): Totals(0, 0.0, (0,) * CLASSES, failed) for side in (Role.SERVER, Role.PLAYER)}
    snapshot = replace(switchboard.snapshot(0.0, Lags()), callbacks=totals)
    found: dict[str, dict[str, set[str]]] = {}
    for family in registry(lambda: snapshot, "test").collect():
        for sample in family.samples:
            values = found.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                values.setdefault(label, set()).add(value)
    assert found["ringback_sessions"]["role"] == {role.value for role in Role}
    return found


def alerts() -> list[dict[str, Any]]:
    rules = yaml.safe_load(RULES.read_text())
    return [rule for group in rules["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return found


def expressions() -> Iterator[tuple[str, str]]:
    for rule in alerts():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]


@pytest.mark.parametrize(("name", "expression"), list(expressions()), ids=lambda value: value[:30])
def test_what_is_named_is_there(there: dict[str, dict[str, set[str]]], name: str, expression: str) -> None:
    metrics = METRIC.findall(expression)
    assert metrics or 'up{job="ringback"}' in expression
    for metric, selectors in metrics:
        assert metric in there, metric
        for label, operator, value in LABEL.findall(selectors):
            if label in OF_PROMETHEUS:
                continue
            for one in value.split("|") if "~" in operator else [value]:
                assert one in there[metric][label], (metric, label, one)
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        known = OF_PROMETHEUS.union(*(there[metric] for metric, _ in metrics))
        assert set(labels.replace(" ", "").split(",")) <= known


def test_what_is_shown_of_labels_is_there(there: dict[str, dict[str, set[str]]]) -> None:
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                kept = ", ".join(re.findall(r"by \(([^)]*)\)", target["expr"])).split(", ")
                assert label in (*kept, "instance"), panel["title"]


def test_each_alert_says_what_to_do() -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    headings = re.findall(r"^### (\w+)$", document, re.MULTILINE)
    assert headings == [rule["alert"] for rule in alerts()]
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"docs/operations.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket") and rule["annotations"]["summary"]


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert [panel["id"] for panel in panels()] == list(range(1, len(panels()) + 1))
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", DASHBOARD.read_text()))
    assert used == names
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(set(places)) == len(places) and all(x + w <= 24 for x, _, w, _ in places)


def test_prometheus_itself_takes_the_rules() -> None:
    """Where it is installed: Debian's package prometheus has promtool."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    for what, name in (("rules", "ringback.rules.yml"), ("config", "prometheus.yml")):
        path = ROOT / "deploy" / "prometheus" / name
        done = subprocess.run(
            [promtool, "check", what, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
