"""Rules and dashboard without a server: what they say, and that they fire and keep quiet when they should."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.conftest import ROOT

PROMETHEUS = ROOT / "docker" / "prometheus"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "fer-service.json"
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))


def check(*command: str | Path) -> None:
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def alerts() -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def test_the_configurations_are_valid(tools: dict[str, str]) -> None:
    check(tools["promtool"], "check", "config", PROMETHEUS / "prometheus.yml")
    check(tools["amtool"], "check-config", ROOT / "docker" / "alertmanager" / "alertmanager.yml")


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_alerts_fire_and_keep_quiet(tools: dict[str, str], path: Path) -> None:
    check(tools["promtool"], "test", "rules", path)


def test_every_alert_is_seen_both_to_fire_and_to_keep_quiet() -> None:
    cases = [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    expected = [one for case in cases for one in case.get("alert_rule_test", [])]
    fire = {one["alertname"] for one in expected if one["exp_alerts"]}
    quiet = {one["alertname"] for one in expected if not one["exp_alerts"]}
    assert fire == quiet == {alert["alert"] for alert in alerts()}


def test_every_alert_is_in_the_runbook() -> None:
    runbook = (ROOT / "docs" / "operations.md").read_text()
    assert [alert["alert"] for alert in alerts() if f"`{alert['alert']}`" not in runbook] == []
    assert {alert["annotations"]["runbook"] for alert in alerts()} == {"docs/operations.md"}


def test_the_dashboard_is_what_the_code_makes() -> None:
    made = subprocess.run(
        [sys.executable, ROOT / "docker" / "grafana" / "dashboard.py"], capture_output=True, check=True
    )
    assert json.loads(made.stdout) == json.loads(DASHBOARD.read_text()), "run `make dashboard`"


def test_panels_do_not_overlap_and_every_one_says_what_it_asks() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert all(0 <= x < 24 for x, _ in cells)
        taken |= cells
    targets = [target for panel in panels for target in panel.get("targets", [])]
    assert all(target["expr"] and target["legendFormat"] for target in targets)


def test_the_dashboard_measures_latency_of_what_the_objective_is_about() -> None:
    """A batch may take longer than one image may, and would raise a quantile over both above the limit."""
    [matchers] = set(
        re.findall(r"http_route=[^}]*status_code=[^},]*", (PROMETHEUS / "recording.yml").read_text())
    )
    panels = json.loads(DASHBOARD.read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    latencies = [one for one in asked if "histogram_quantile" in one and "http_server_request" in one]
    assert len(latencies) > 1
    assert [one for one in latencies if matchers not in one] == []


def test_what_is_recorded_is_looked_at() -> None:
    """A recording rule that neither an alert nor a panel nor another rule reads is waste."""
    recording = (PROMETHEUS / "recording.yml").read_text()
    names = re.findall(r"record: (\S+)", recording)
    readers = re.sub(r"record: \S+", "", recording) + DASHBOARD.read_text()
    readers += (PROMETHEUS / "alerts.yml").read_text()
    assert [name for name in names if not re.search(re.escape(name) + r"(?!\w)", readers)] == []
