"""Benchmarks with a real engine, a real judge, and beside a real training."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from actors.training import prepare, run_reinforcement
from data.sample import CAMERAS
from evaluation.run_record import read_run
from evaluation.suites.record import read_record
from tests.drawn import six_cameras, written
from tests.integration.conftest import QUICK_ENGINE, ROOT, MakeRecipe, any_node


def drivebench(folder: Path) -> list[str]:
    """Two questions with their images."""
    six_cameras(folder / "nuscenes" / "samples", "one")
    paths = {camera: f"samples/{camera}/one.jpg" for camera in CAMERAS}
    about = {"scene_token": "s", "frame_token": "f", "tag": [0], "image_path": paths}
    entries = [
        about | {"question_type": "perception", "question": "Is <c1,CAM_BACK,0.5,0.6> a car?", "answer": "Yes."},
        about | {"question_type": "planning", "question": "What is safe now?", "answer": "Brake gently to a stop."},
    ]
    answers = written(folder / "test.json", entries)
    return ["--answers", str(answers), "--image-root", str(folder / "nuscenes"), "--settings", "clean,no_image"]


def test_a_model_is_asked_judged_and_reported_and_a_second_call_asks_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "evaluate.py", "drivebench", "--model", "tiny", "--repeats", "2", "--out", str(out)]
    command += ["--recipe", "recipes/tiny_judge.yaml", *drivebench(tmp_path), f"run.root={tmp_path}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    record, answers = read_record(out)
    assert (printed["questions"], len(answers)) == (4, 8)
    assert {(one.setting, one.repeat) for one in answers} == {(s, r) for s in ("clean", "no_image") for r in (0, 1)}
    assert [one.failure for one in answers] == [None] * 8
    shown = {one.sample_id: one.image_tokens or 0 for one in answers}
    assert shown["s_f_1"] == 6 * shown["s_f_0"] > 0  # one camera is named, or all are shown
    judged = record.figures["judge/clean/planning"]
    assert judged is not None
    assert printed["judge/clean/planning"] == judged.mean
    assert (out / "report.html").is_file()
    kept = (out / "replies.jsonl").read_text()
    again = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert (out / "replies.jsonl").read_text() == kept


def test_a_run_measures_a_benchmark_on_its_way(ray_session: None, small_recipe: MakeRecipe) -> None:
    suites = "evaluation.suites={rendered: {scenes: 2, limit: 3}}"
    recipe = small_recipe(
        QUICK_ENGINE, "run.steps=2", "evaluation.every=1", suites, "evaluation.before_and_after=false"
    )
    run = prepare(recipe)
    assert asyncio.run(run_reinforcement(run, any_node))
    record = read_run(run.folder)
    measured = record.series("benchmark/rendered/mean")
    left_out = [alarm["step"] for alarm in record.alarms if alarm["kind"] == "benchmark_left_out"]
    assert sorted([*(int(step) for step, _ in measured), *left_out]) == [1, 2]
    assert measured[0][0] == 1
    assert all("reward/mean" in step for step in record.steps)  # the figures joined the metrics of their step
    folder = run.folder / "benchmarks" / "step_000001"
    assert len(read_record(folder / "rendered")[1]) == 7  # a frame stays whole, and a scene has one of seven questions
    assert not (folder / "policy").exists()
    assert "rendered" in (run.folder / "report.html").read_text()
