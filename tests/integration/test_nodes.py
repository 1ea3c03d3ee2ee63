"""A run on a simulated cluster whose nodes come and go: with its only engine, and with one more."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from ray.cluster_utils import Cluster

from tests.integration.conftest import QUICK_ENGINE, ROOT, SMALL

pytestmark = [pytest.mark.slow, pytest.mark.fault]

STORE = {"object_store_memory": 100 * 2**20}
STEPS = 4
ENGINES: dict[str, Any] = {"num_cpus": 1, "labels": {"autodriverl/role": "rollout"}, **STORE}


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A head that holds the learner, and no node yet for the engine; all on this machine."""
    trainer = {"num_cpus": 2, "include_dashboard": False, "labels": {"autodriverl/role": "trainer"}, **STORE}
    simulated = Cluster(initialize_head=True, head_node_args=trainer)
    yield simulated
    simulated.shutdown()


def wait_for(run: subprocess.Popen[str], beginning: str) -> None:
    """Read what the run prints until a line begins so; it is ended where that takes too long."""
    said = []
    assert run.stdout is not None
    limit = threading.Timer(600.0, run.kill)
    limit.start()
    try:
        for line in run.stdout:
            said.append(line)
            if line.startswith(beginning):
                return
    finally:
        limit.cancel()
    raise AssertionError(f"it never said {beginning!r}: {''.join(said)[-3000:]}")


@contextmanager
def run_on(cluster: Cluster, root: Path, *settings: str) -> Iterator[subprocess.Popen[str]]:
    """A training whose learner has its place on the head, and its engines on nodes labelled for them."""
    labels = ("cluster.learner_label=trainer", "cluster.rollout_label=rollout", f"cluster.address={cluster.address}")
    given = (*SMALL, QUICK_ENGINE, "evaluation.before_and_after=false", "sync.timeout_s=60", *labels, *settings)
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", f"run.root={root}", *given]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"}, **pipes) as run:
        try:
            yield run
        finally:
            run.kill()


def steps_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "tiny" / "metrics.jsonl").read_text().splitlines()]


def test_a_run_outlives_the_node_of_its_engine_and_goes_on_with_one_that_joins_late(
    cluster: Cluster, tmp_path: Path
) -> None:
    first = cluster.add_node(**ENGINES)
    with run_on(cluster, tmp_path, f"run.steps={STEPS}") as run:
        wait_for(run, f"step 1/{STEPS}")
        cluster.remove_node(first, allow_graceful=False)
        time.sleep(5.0)  # the run has nobody to ask now
        assert run.poll() is None
        cluster.add_node(**ENGINES)
        wait_for(run, f"step {STEPS}/{STEPS}")
        rest, _ = run.communicate(timeout=600)
        assert run.returncode == 0, rest
    steps = steps_of(tmp_path)
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert (steps[-1]["engines/lost"] >= 1, steps[-1]["engines/restarted"]) == (True, 1)
    assert all(step["rollouts/masked"] == 0 and step["probe_gap"] < 1e-4 for step in steps)


def test_an_engine_more_joins_with_a_node_and_leaves_with_it_while_the_run_goes_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    cluster.add_node(**ENGINES)
    with run_on(cluster, tmp_path, "run.steps=100000", "rollout.max_engines=2") as run:
        wait_for(run, "step 1/")
        further = cluster.add_node(**ENGINES)
        wait_for(run, "rollout engine 1 joined")
        for _ in range(3):
            wait_for(run, "step ")
        cluster.remove_node(further, allow_graceful=False)
        wait_for(run, "rollout engine 1 left")
        for _ in range(3):
            wait_for(run, "step ")
        cluster.add_node(**ENGINES)
        wait_for(run, "rollout engine 1 joined")
        for _ in range(3):
            wait_for(run, "step ")
        run.send_signal(signal.SIGINT)
        rest, _ = run.communicate(timeout=600)
        assert "stopped after step" in rest
    steps = steps_of(tmp_path)
    assert [step["step"] for step in steps] == list(range(1, len(steps) + 1))
    assert [engines for engines, _ in groupby(step["sync_engines"] for step in steps)] == [1, 2, 1, 2]
    assert (steps[-1]["engines/joined"], steps[-1]["engines/restarted"]) == (2, 0)
    assert all(step["rollouts/masked"] == 0 and step["probe_gap"] < 1e-4 for step in steps)
    answers = pq.read_table(tmp_path / "tiny" / "samples", columns=["engine"])
    assert set(answers["engine"].to_pylist()) == {"rollout engine 0", "rollout engine 1"}
