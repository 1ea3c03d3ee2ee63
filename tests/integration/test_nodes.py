"""A run on a simulated cluster whose nodes come and go: the node of its only engine is lost, another joins late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    """Read what the run prints until a line begins so."""
    said = []
    assert run.stdout is not None
    for line in run.stdout:
        said.append(line)
        if line.startswith(beginning):
            return
    raise AssertionError(f"it never said {beginning!r}: {''.join(said)[-3000:]}")


def test_a_run_outlives_the_node_of_its_engine_and_goes_on_with_one_that_joins_late(
    cluster: Cluster, tmp_path: Path
) -> None:
    first = cluster.add_node(**ENGINES)
    labels = ("cluster.learner_label=trainer", "cluster.rollout_label=rollout", f"cluster.address={cluster.address}")
    settings = (*SMALL, f"run.steps={STEPS}", QUICK_ENGINE, "evaluation.before_and_after=false", "sync.timeout_s=60")
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", f"run.root={tmp_path}", *settings, *labels]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as run:
        try:
            wait_for(run, f"step 1/{STEPS}")
            cluster.remove_node(first, allow_graceful=False)
            time.sleep(5.0)  # the run has nobody to ask now
            assert run.poll() is None
            cluster.add_node(**ENGINES)
            wait_for(run, f"step {STEPS}/{STEPS}")
            rest, _ = run.communicate(timeout=600)
            assert run.returncode == 0, rest
        finally:
            run.kill()
    steps = [json.loads(line) for line in (tmp_path / "tiny" / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert (steps[-1]["engines/lost"] >= 1, steps[-1]["engines/restarted"]) == (True, 1)
    assert all(step["rollouts/masked"] == 0 and step["probe_gap"] < 1e-4 for step in steps)
