"""A job on a cluster of three nodes with token authentication: the node of its only engine is lost, another joins."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import QUICK_ENGINE, SMALL
from tests.integration.heads import JOB_S, START_S, Head, lose, ray_head

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(START_S + 2 * JOB_S)]

STEPS = 6
AWAY_S = 5.0


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """A head that holds no process of a run, as in `cluster/launch/`."""
    with ray_head(0, "--labels=autodriverl/role=head") as started:
        yield started


def wait_until(what: Callable[[], bool], head: Head, job: str) -> None:
    deadline = time.monotonic() + JOB_S
    while not what():
        assert head.job(job)["status"] in ("PENDING", "RUNNING"), head.log(job)
        assert time.monotonic() < deadline, head.log(job)
        time.sleep(0.5)


def test_a_node_with_another_token_does_not_join(head: Head) -> None:
    before = head.alive()
    stranger = head.joining("rollout", 1, token=secrets.token_hex(32))
    assert stranger.wait(START_S) != 0
    assert head.alive() == before


def test_a_submitted_job_outlives_the_node_of_its_engine_and_goes_on_with_one_that_joins(
    head: Head, tmp_path: Path
) -> None:
    head.joining("trainer", 1)
    first = head.joining("rollout", 1)
    head.wait_for_nodes(3)
    labels = ("cluster.learner_label=trainer", "cluster.rollout_label=rollout", "learner.cpus=1", "rollout.cpus=1")
    settings = (*SMALL, f"run.steps={STEPS}", QUICK_ENGINE, "evaluation.before_and_after=false", "sync.timeout_s=60")
    job = head.submit("python", "train_grpo.py", "recipes/tiny.yaml", f"run.root={tmp_path}", *settings, *labels)
    metrics = tmp_path / "tiny" / "metrics.jsonl"
    wait_until(metrics.is_file, head, job)
    wait_until(lambda: bool(metrics.read_text()), head, job)
    lose(first)
    head.wait_for_nodes(2)
    time.sleep(AWAY_S)  # the run has nobody to ask now
    assert head.job(job)["status"] == "RUNNING", head.log(job)
    head.joining("rollout", 1)
    head.wait_for_nodes(3)
    status, log = head.outcome(job)
    assert status == "SUCCEEDED", log
    steps = [json.loads(line) for line in metrics.read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, STEPS + 1))
    assert (steps[-1]["engines/lost"] >= 1, steps[-1]["engines/restarted"]) == (True, 1)
    assert all(step["rollouts/masked"] == 0 and step["probe_gap"] < 1e-4 for step in steps)
    shown, report = head.job(job)["metadata"], tmp_path / "tiny" / "report.html"
    assert (shown["step"], shown["report"]) == (f"{STEPS} of {STEPS}", str(report))
    assert report.is_file()
