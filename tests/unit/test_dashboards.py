"""What the exporter shows of a step and of pools; rules and dashboard ask for nothing else, and the rules hold."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from actors.record.exporter import EXPORTED, Exporter, Point, PoolState, pool_points, step_points
from cluster.dashboards import grafana
from recipe import Recipe

FOLDER = Path(grafana.__file__).parent
METRICS = {
    "reward/mean": 40.0,
    "reward/behavior": 50.0,
    "parts/judge": 70.0,
    "parts/rouge_l": 20.0,
    "kl": 0.01,
    "probe_gap": 1e-5,
    "rollout_gap_max": 2e-5,
    "step_s": 9.0,
    "sync_s": 1.0,
    "tokens_per_s": 300.0,
    "staleness": 0.0,
    "rollouts/count": 8.0,
    "rollouts/masked": 2.0,
    "rollouts/masked/judge_timeout": 2.0,
    "learner/restarts": 1.0,
    "lr": 1e-6,
}


def test_the_figures_of_a_step_carry_their_labels_and_what_is_no_figure_is_left_out() -> None:
    points = list(step_points(3, METRICS))
    assert Point("reward", 40.0, {"task": "all"}) in points
    assert Point("reward", 50.0, {"task": "behavior"}) in points
    assert Point("part", 70.0, {"part": "judge", "kind": "judge"}) in points
    assert Point("part", 20.0, {"part": "rouge_l", "kind": "rule"}) in points
    assert Point("logprob_gap", 1e-5, {"of": "probes"}) in points
    assert Point("masked_share", 0.25, {}) in points
    assert Point("masked", 2.0, {"reason": "judge_timeout"}) in points
    assert Point("step_seconds", 1.0, {"part": "sync"}) in points
    assert not any("lr" in point.labels.values() for point in points)


def test_every_figure_is_declared_with_the_labels_it_carries() -> None:
    judge = PoolState(waiting=4, asked=9, failed=1, healthy=1, members=2, judged=8, seconds=3.0)
    for point in (*step_points(3, METRICS), *pool_points("judge", judge)):
        assert tuple(point.labels) == EXPORTED[point.name][1]


def test_without_ray_nothing_is_exported_and_nothing_fails() -> None:
    exporter = Exporter(Recipe(run={"name": "r"}))
    exporter.observe(1, METRICS)
    exporter.watch({"engines": lambda: PoolState(1)})
    exporter.close()


def test_rules_and_dashboard_ask_for_figures_that_are_exported() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    for query in (*grafana.queries(), *(rule["expr"] for rule in rules)):
        asked = set(re.findall(r"ray_autodriverl_(\w+)", query))
        assert asked <= EXPORTED.keys(), query
        for name in asked:
            for labels in re.findall(rf"ray_autodriverl_{name}\{{(.*?)\}}", query):
                assert set(re.findall(r"(\w+)=", labels)) <= {"run", *EXPORTED[name][1]}, query


def test_every_figure_is_shown() -> None:
    shown = " ".join(grafana.queries())
    assert {name for name in EXPORTED if f"ray_autodriverl_{name}" not in shown} == {"running"}


def test_the_file_for_grafana_is_what_the_panels_say() -> None:
    assert grafana.DASHBOARD.read_text() == grafana.text(), "run python -m cluster.dashboards.grafana"


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ("check", "config", "--syntax-only", "prometheus.yaml"),
        ("check", "rules", "alerts.yaml"),
        ("test", "rules", "alerts_test.yaml"),
    ],
    ids=" ".join,
)
def test_promtool_finds_nothing(command: tuple[str, ...]) -> None:
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    done = subprocess.run([promtool, *command], cwd=FOLDER, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_every_rule_is_tried() -> None:
    rules = yaml.safe_load((FOLDER / "alerts.yaml").read_text())["groups"][0]["rules"]
    tests = yaml.safe_load((FOLDER / "alerts_test.yaml").read_text())["tests"]
    tried = {one["alertname"] for test in tests for one in test["alert_rule_test"] if one["exp_alerts"]}
    assert {rule["alert"] for rule in rules} == tried
