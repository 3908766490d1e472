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
from ringback_broker.operations.snapshot import Lags, RealmView
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
    snapshot = replace(switchboard.snapshot(0.0, Lags()), callbacks=totals, realm=RealmView(True, 2, 1))
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


@pytest.fixture
def promtool() -> str:
    """Return the path of promtool, which is in Debian's package prometheus."""
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed")
    return found


def firing(promtool: str, folder: Path, series: dict[str, str], name: str) -> set[str]:
    """Return the instances for which Prometheus itself says that an alert fires after five minutes.

    Args:
        series: the values of each series, as promtool writes them.
    """
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "10s",
        "tests": [
            {
                "interval": "10s",
                "input_series": [{"series": one, "values": values} for one, values in series.items()],
                "alert_rule_test": [{"eval_time": "5m", "alertname": name, "exp_alerts": []}],
            }
        ],
    }
    path = folder / "test.yml"
    path.write_text(yaml.safe_dump(test))
    done = subprocess.run([promtool, "test", "rules", str(path)], capture_output=True, text=True, check=False)
    fired = set(re.findall(r'Labels:\{alertname="\w+"(?:, instance="(\w+)")?', done.stdout + done.stderr))
    assert bool(fired) == (done.returncode != 0), done.stdout + done.stderr
    return fired


def realm(**nodes: dict[str, int]) -> dict[str, str]:
    """Return the series of a realm: for each node, whether it is a member, has the seat and a server."""
    series: dict[str, str] = {}
    for node, figures in nodes.items():
        where = f'job="ringback", instance="{node}"'
        series[f'ringback_sessions{{{where}, role="server"}}'] = f"{figures.get('server', 0)}x60"
        series[f"ringback_realm_member{{{where}}}"] = f"{figures.get('member', 1)}x60"
        series[f"ringback_realm_seat{{{where}}}"] = f"{figures.get('seat', 0)}x60"
        for state in ("alive", "linked"):
            series[f'ringback_realm_nodes{{{where}, state="{state}"}}'] = f"{figures.get(state, 1)}x60"
    return series


ALONE = {'ringback_sessions{job="ringback", instance="a", role="server"}': "0x60"}
WELL = {"a": {"server": 1, "seat": 1}, "b": {}}


@pytest.mark.parametrize(
    ("series", "name", "instances"),
    [
        (ALONE, "RingbackNoServer", {"a"}),
        (realm(**WELL), "RingbackNoServer", set()),
        (realm(**WELL), "RingbackRealmNoServer", set()),
        (realm(**WELL), "RingbackRealmLost", set()),
        (realm(**WELL), "RingbackRealmUnlinked", set()),
        (realm(a={}, b={}), "RingbackRealmNoServer", {""}),
        (realm(**WELL, c={"member": 0}), "RingbackRealmLost", {"c"}),
        (realm(**WELL, c={"alive": 2, "linked": 1}), "RingbackRealmUnlinked", {"c"}),
    ],
)
def test_an_alert_fires_where_it_must(
    promtool: str, tmp_path: Path, series: dict[str, str], name: str, instances: set[str]
) -> None:
    assert firing(promtool, tmp_path, series, name) == instances


def test_prometheus_itself_accepts_the_files(promtool: str) -> None:
    for what, name in (("rules", "ringback.rules.yml"), ("config", "prometheus.yml")):
        path = ROOT / "deploy" / "prometheus" / name
        done = subprocess.run(
            [promtool, "check", what, str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
