"""A tiny run is scraped by a real Prometheus: every panel and every rule has an answer."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray
import yaml

from actors.training import prepare, run_reinforcement
from cluster.dashboards import grafana
from tests.integration.conftest import QUICK_ENGINE, MakeRecipe, any_node
from tests.integration.heads import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_session")]

SHIPPED = Path(grafana.__file__).parent
ANSWER_S = 120.0
ONLY_GPUS = "ray_node_gram"


@pytest.fixture
def prometheus(tmp_path: Path, ray_session: None) -> Iterator[str]:
    """The shipped configuration, scraping this session's nodes every second; yields its address."""
    if (binary := shutil.which("prometheus")) is None:
        pytest.skip("Prometheus is not installed: apt-get install prometheus")
    config = yaml.safe_load((SHIPPED / "prometheus.yaml").read_text())
    config["global"] |= {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(SHIPPED / "alerts.yaml")]
    (nodes,) = config["scrape_configs"][0]["file_sd_configs"]
    nodes["files"] = [str(tmp_path / "nodes.json")]
    targets = [f"{node['NodeManagerAddress']}:{node['MetricsExportPort']}" for node in ray.nodes()]
    (tmp_path / "nodes.json").write_text(json.dumps([{"targets": targets}]))
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (port,) = free_ports(1)
    command = [binary, f"--config.file={tmp_path / 'prometheus.yaml'}", f"--storage.tsdb.path={tmp_path / 'data'}"]
    process = subprocess.Popen([*command, f"--web.listen-address=127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}/api/v1"
    finally:
        process.terminate()
        process.wait(60)


def answer(url: str, **parameters: Any) -> Any:
    return httpx.get(url, params=parameters, timeout=60.0).raise_for_status().json()["data"]


def unanswered(prometheus: str, since: float) -> list[str]:
    """The dashboard's queries that have no value at any time of the run."""
    span = {"start": since, "end": time.time(), "step": "5"}
    asked = [query for query in grafana.queries() if ONLY_GPUS not in query]
    return [q for q in asked if not answer(f"{prometheus}/query_range", query=q, **span)["result"]]


def test_every_panel_and_every_rule_has_an_answer(prometheus: str, small_recipe: MakeRecipe) -> None:
    began = time.time()
    recipe = small_recipe("run.steps=2", QUICK_ENGINE, "evaluation.before_and_after=false", recipe="tiny_judge")
    assert asyncio.run(run_reinforcement(prepare(recipe), any_node))
    deadline = time.monotonic() + ANSWER_S
    while left := unanswered(prometheus, began):
        assert time.monotonic() < deadline, left
        time.sleep(2.0)
    rules = answer(f"{prometheus}/rules")["groups"][0]["rules"]
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] != "ok"] == []
    for name, value in (("step", "2"), ("running", "0")):  # what was said last, for an ended run falls silent
        query = f'max(last_over_time(ray_autodriverl_{name}{{run="{recipe.run.name}"}}[1h]))'
        (last,) = answer(f"{prometheus}/query", query=query)["result"]
        assert last["value"][1] == value, name
