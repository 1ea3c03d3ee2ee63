"""`ray job submit` from an activated venv, against a head with a dashboard and token authentication."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.heads import JOB_S, START_S, Head, ray_head

SMALL = (
    "run.steps=1",
    "warm_start.steps=2",
    "data.options.scenes=8",
    "evaluation.samples_per_task=2",
    "rollout.max_tokens=24",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(START_S + JOB_S + 600)]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with ray_head(cpus=2) as started:
        yield started


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong" * 8, 403)])
@pytest.mark.parametrize("path", ["/api/version", "/api/jobs/", "/api/cluster_status"])
def test_a_request_without_the_token_is_turned_away(head: Head, path: str, token: str | None, status: int) -> None:
    assert head.get(path, token).status_code == status
    assert head.get(path, head.token).status_code == 200


def test_a_submitted_run_trains_and_leaves_its_report(head: Head, tmp_path: Path) -> None:
    job = head.submit("python", "train_grpo.py", "recipes/tiny.yaml", f"run.root={tmp_path}", *SMALL)
    status, log = head.outcome(job)
    assert status == "SUCCEEDED", log
    assert (tmp_path / "tiny" / "report.html").stat().st_size > 0
    assert (tmp_path / "tiny" / "policy" / "config.json").is_file()
    shown = head.job(job)["metadata"]
    assert (shown["step"], shown["report"]) == ("1 of 1", str(tmp_path / "tiny" / "report.html"))
    assert 0.0 <= float(shown["reward"]) <= 100.0


def test_a_submitted_run_drives_and_shows_it(head: Head, tmp_path: Path) -> None:
    small = ("run.steps=1", "rollout.prompts_per_step=2", "rollout.group_size=2", "warm_start.steps=2")
    quick = (
        "data.options.scenarios=11",
        "environment.measured_each=1",
        "environment.max_turns=4",
        "evaluation.control=false",
    )
    root = f"run.root={tmp_path}"
    job = head.submit("python", "train_grpo.py", "recipes/tiny_closed_loop.yaml", root, *small, *quick)
    status, log = head.outcome(job)
    assert status == "SUCCEEDED", log
    assert "animateTransform" in (tmp_path / "tiny_closed_loop" / "report.html").read_text()
    assert head.job(job)["metadata"]["step"] == "1 of 1"


def test_a_relative_run_root_is_refused_for_it_would_be_thrown_away(head: Head) -> None:
    status, log = head.outcome(head.submit("python", "train_grpo.py", "recipes/tiny.yaml", "run.root=runs"))
    assert status == "FAILED", log
    assert (
        "error: run.root=runs is relative, but under `ray job submit` the working directory is a throw-away copy" in log
    )
