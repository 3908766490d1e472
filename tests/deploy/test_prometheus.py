"""The alerts and the Grafana dashboard name metrics, labels and label values that exist."""

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
def metrics() -> dict[str, dict[str, set[str]]]:
    """Return all metrics of a broker: for each name, the values of each label."""
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
def test_an_expression_names_what_exists(
    metrics: dict[str, dict[str, set[str]]], name: str, expression: str
) -> None:
    named = METRIC.findall(expression)
    assert named or 'up{job="ringback"}' in expression
    for metric, selectors in named:
        assert metric in metrics, metric
        for label, operator, value in LABEL.findall(selectors):
            if label in OF_PROMETHEUS:
                continue
            for one in value.split("|") if "~" in operator else [value]:
                assert one in metrics[metric][label], (metric, label, one)
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        known = OF_PROMETHEUS.union(*(metrics[metric] for metric, _ in named))
        assert set(labels.replace(" ", "").split(",")) <= known


def test_a_legend_shows_labels_that_its_expression_keeps() -> None:
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


def test_the_document_lists_each_metric(metrics: dict[str, dict[str, set[str]]]) -> None:
    document = (ROOT / "docs" / "operations.md").read_text()
    listed = set(re.findall(r"`(ringback_\w+)", document))
    exposed = {re.sub(r"_(bucket|count|sum)$", "", name) for name in metrics if name.startswith("ringback_")}
    assert exposed <= listed


def test_the_dashboard_is_complete() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert [panel["id"] for panel in panels()] == list(range(1, len(panels()) + 1))
    names = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]\w*)", DASHBOARD.read_text()))
    assert used == names
    places = [tuple(panel["gridPos"].values()) for panel in panels()]
    assert len(set(places)) == len(places) and all(x + w <= 24 for x, _, w, _ in places)


def test_prometheus_itself_accepts_the_files() -> None:
    """promtool checks them. It is in Debian's package prometheus."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    for what, name in (("rules", "ringback.rules.yml"), ("config", "prometheus.yml")):
        path = ROOT / "deploy" / "prometheus" / name
        done = subprocess.run(
            [promtool, "check", what, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
