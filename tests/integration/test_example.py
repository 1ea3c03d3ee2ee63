"""The example folder of own images, reward and recipe, as its README says it, on the real stack; with both trackers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from mlflow.tracking import MlflowClient

from evaluation.run_record import read_run

ROOT = Path(__file__).parents[2]


def test_the_example_trains_and_leaves_curves_of_its_own_task_everywhere(tmp_path: Path) -> None:
    arguments = [
        "docs/examples/own/recipe.yaml", f"run.root={tmp_path}", "run.steps=2", "warm_start.steps=2",
        "rollout.prompts_per_step=2", "rollout.group_size=2", "rollout.top_p=0.9", "learner.schedule=cosine",
        "evaluation.held_out_every=1", "run.samples_every=1", "run.live_report_s=1",
        "run.trackers={wandb: {mode: offline}, mlflow: {}}",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "train_grpo.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=900,
        env=os.environ | {"HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:] + done.stdout[-2000:]
    run = read_run(tmp_path / "own")
    assert run.tasks() == ["lights"]
    assert [step["lr"] for step in run.steps] == sorted((step["lr"] for step in run.steps), reverse=True)
    assert set(run.benchmarks()["held_out"]) == {"lights", "reward", "seconds"}
    assert [alarm["kind"] for alarm in run.alarms] == ["cut_sampling"]
    page = (tmp_path / "own" / "report.html").read_text()
    assert "too few to tell a change from luck" in page
    assert "http-equiv" not in page.partition("Content-Security-Policy")[2].partition("<style>")[0]
    card = (tmp_path / "own" / "policy" / "README.md").read_text()
    assert "| Lights | 3 |" in card
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("autodriverl")
    assert experiment is not None
    (kept,) = client.search_runs([experiment.experiment_id])
    assert kept.data.metrics["reward/lights"] == run.steps[-1]["reward/lights"]
    assert list((tmp_path / "own" / "wandb").glob("offline-run-*"))
    assert json.loads((tmp_path / "own" / "trackers.json").read_text()).keys() == {"wandb", "mlflow"}
