# SPDX-License-Identifier: Apache-2.0
"""The alerts and the dashboard in contrib/: they name metrics and labels that a scrape has."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lamella.services.metrics.operations import ERRORS
from lamella.services.metrics.table import MODES, STATES, TABLE
from tests.services.metrics.conftest import Readers, families, fetch, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
CONTRIB = HERE.parents[2] / "contrib"
ALERTS = CONTRIB / "prometheus/lamella-alerts.yml"
DASHBOARD = CONTRIB / "grafana/lamella.json"
PROMETHEUS_OWN = {"up", "ALERTS"}
VALUES = {
    "state": set(STATES),
    "mode": {*MODES, "loop-lvm", "direct-lvm"},
    "result": {"ok", "error"},
    "error": set(ERRORS),
    "job": {"lamella"},
}
"""What labels can be; others are not compared with anything."""


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    for rule in rules():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


def metrics_in(expression: str) -> set[str]:
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|\b(by|on) \([^)]*\)", "", expression)
    return {word for word in re.findall(r"\b[a-z_]+\b(?!\s*\()", bare) if "_" in word or word == "up"} - {
        "histogram_quantile"
    }


@pytest.fixture(scope="module")
def series(_stores: Callable[[str], Path]) -> set[str]:
    """The names of all series that scrapes of both modes have."""
    found = set(PROMETHEUS_OWN)
    for mode in ("loop-lvm", "direct-lvm"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LAMELLA_ENGINE", "user")
            with serving(Readers(_stores(mode))) as service:
                service.operations.observe("prepare", 0.02, "ok")
                service.operations.observe_command("pull", 2.0, 0)
                service._collector.usage.get(60)
                text = fetch(service.address).text
        found |= {sample.name for family in families(text).values() for sample in family.samples}
    return found


def test_expressions_name_metrics_that_a_scrape_has(series: set[str]) -> None:
    for expression in expressions():
        named = metrics_in(expression)
        assert named, expression
        assert named <= series, expression


def test_expressions_name_labels_and_values_that_there_are() -> None:
    known = {label for metric in TABLE.values() for label in metric.labels} | {"job", "instance", "le"}
    seen = set()
    for expression in expressions():
        for label, value in re.findall(r'(\w+)[=!]~?"([^"]*)"', expression):
            assert label in known, expression
            for one in value.split("|") if label in VALUES else ():
                assert one in VALUES[label], expression
                seen.add(one)
        for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            assert set(labels.split(", ")) <= known, expression
    assert {"suspended", "read_only", "UsageError"} <= seen


def test_each_alert_says_what_and_what_to_do() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["description"]


def test_each_alert_is_tested() -> None:
    cases = (HERE / "alerts.test.yml").read_text()
    for rule in rules():
        fires = rf'alertname="{rule["alert"]}",alertstate="firing"}}\)\', eval_time: \w+, exp_samples: \[\{{'
        stays = rf"alertname: {rule['alert']}, exp_alerts: \[\]"
        assert re.search(stays, cases), rule["alert"]
        assert re.search(fires, cases) or re.search(rf"{rule['alert']}\n +exp_alerts: \[\{{", cases), rule[
            "alert"
        ]


def test_the_dashboard_is_well_formed() -> None:
    board = json.loads(DASHBOARD.read_text())
    every = board["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    covered: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & covered, panel["title"]
        assert at["x"] + at["w"] <= 24
        covered |= cells
    variables = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(every))) - {"__rate_interval"}
    assert used == variables


def test_promtool_takes_the_rules_and_they_fire_when_they_should(tool: Callable[[str], str]) -> None:
    promtool = tool("promtool")
    for command in (["check", "rules", str(ALERTS)], ["test", "rules", str(HERE / "alerts.test.yml")]):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_names(root: Path, tool: Callable[[str], str]) -> None:
    with serving(Readers(root)) as service:
        service.operations.observe("prepare", 0.02, "ok")
        service._collector.usage.get(60)
        text = fetch(service.address).text
    done = subprocess.run(
        [tool("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout + done.stderr == ""
