"""What a report says in sentences, and the page that is written while a run goes."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from actors.record import live_page
from actors.record.live_page import LivePage
from data.sample import TASKS, DrivingSample
from evaluation.comparison.before_after import compare
from evaluation.held_out import EvaluationResult, Judged, summarize
from evaluation.pages.findings import Finding, findings
from evaluation.pages.opening import opening
from evaluation.pages.run_report import write_report
from evaluation.run_record import evaluation_path, read_run
from rewards.score import Score
from tests.page import Page

Value = Callable[[str, int], float]


def about(worth: float) -> Value:
    """Answers worth about so much, not all alike."""
    return lambda task, number: worth - number % 3


def measured(name: str, value: Value, each: int = 20, tasks: tuple[str, ...] = TASKS) -> EvaluationResult:
    def judged(task: str, number: int) -> Judged:
        sample = DrivingSample(
            f"{task}-{number}", f"s{number}", f"f{number}", task, "open_ended", "Q?", "A.", {"CAM_FRONT": "/no.jpg"}
        )
        return Judged(sample, "A.", "stop", Score(value(task, number), {}), 2)

    return summarize(name, 0, [judged(task, number) for task in tasks for number in range(each)])


def run_of(folder: Path, steps: list[dict[str, Any]], *results: EvaluationResult) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    (folder / "recipe.yaml").write_text("run: {name: mine, steps: 9}\n")
    (folder / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    for result in results:
        evaluation_path(folder, result.name).write_text(result.to_json())
    return folder


def said(folder: Path) -> list[Finding]:
    run = read_run(folder)
    opened = opening(run.evaluations.get("before"), run.evaluations.get("after"))
    return findings(run, compare(run.evaluations), opened)


def test_four_questions_are_too_few_to_call_it_a_change(tmp_path: Path) -> None:
    results = [measured(name, about(worth), each=1) for name, worth in (("before", 0.0), ("after", 90.0))]
    folder = run_of(tmp_path / "run", [], *results)
    (only,) = said(folder)
    assert (only.tone, only.text.startswith("Only 4 held-out questions")) == ("plain", True)
    page = write_report(folder).read_text()
    assert 'class="delta plain"' in page
    assert 'class="change good"' not in page


def test_a_control_that_beats_rl_is_explained(tmp_path: Path) -> None:
    worths = {"before": 50.0, "after": 70.0, "continued_warm_start": 100.0}
    results = [measured(name, about(w)) for name, w in worths.items()]
    folder = run_of(tmp_path / "run", [], *results)
    (control,) = said(folder)
    assert control.tone == "bad"
    assert "more supervised steps reach 99." in control.text
    assert "RL is for answers that nobody can copy" in control.text
    assert control.text in Page(write_report(folder).read_text()).text


def test_a_task_that_became_worse_is_named(tmp_path: Path) -> None:
    def after(task: str, number: int) -> float:
        return 20.0 + number % 2 if task == "perception" else 80.0 + number % 2

    folder = run_of(tmp_path / "run", [], measured("before", lambda t, n: 50.0 + n % 2), measured("after", after))
    assert [one.text for one in said(folder)] == [
        "Perception became worse: 50.5 before, 20.5 after. Its losses are shown below."
    ]


def test_a_fall_in_training_is_reported_with_its_steps(tmp_path: Path) -> None:
    steps = [
        {"step": step, "reward/mean": 50.0, "reward/signs": 60.0 if step < 30 else 6.0, "reward/planning": 50.0}
        for step in range(1, 60)
    ]
    (fall,) = said(run_of(tmp_path / "run", steps))
    assert fall.tone == "bad"
    assert fall.text.startswith("Signs fell in training: from 60.0 around step ")
    assert "to 6.0 around step 3" in fall.text


def test_a_fall_that_was_made_good_says_so(tmp_path: Path) -> None:
    rewards = [60.0] * 20 + [6.0] * 10 + [60.0] * 20
    steps = [{"step": at, "reward/mean": 50.0, "reward/planning": worth} for at, worth in enumerate(rewards, 1)]
    (fall,) = said(run_of(tmp_path / "run", steps))
    assert fall.text.endswith("and ended at 60.0.")


def test_steady_rewards_say_nothing(tmp_path: Path) -> None:
    steps = [{"step": step, "reward/mean": 50.0, "reward/planning": 50.0 + step % 7} for step in range(1, 60)]
    assert said(run_of(tmp_path / "run", steps)) == []


def test_answers_that_need_no_images_are_reported(tmp_path: Path) -> None:
    worths = {"before": 50.0, "after": 90.0, "swapped": 88.0}
    results = [measured(name, about(w)) for name, w in worths.items()]
    assert any(
        "little of what was learnt needs the images" in one.text for one in said(run_of(tmp_path / "r", [], *results))
    )


# --- the page while the run goes --------------------------------------------------------------------------------------


def test_a_page_of_a_run_that_goes_on_renews_itself_and_the_last_one_does_not(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", [{"step": 3, "reward/mean": 50.0}])
    live = write_report(folder, renewed_s=20.0).read_text()
    assert '<meta http-equiv="refresh" content="20">' in live
    assert "running, step 3 of 9 at" in Page(live).text
    assert "refresh" not in write_report(folder).read_text()


def test_pages_are_apart_by_the_least_time_and_by_what_they_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, written = 100.0, []

    def write(folder: Path, *, renewed_s: float) -> None:
        nonlocal now
        written.append(now)
        now += 2.0

    monkeypatch.setattr(live_page, "write_report", write)
    monkeypatch.setattr(live_page.time, "monotonic", lambda: now)
    page = LivePage(tmp_path, least_s=5.0)
    for _ in range(400):
        page.renew()
        if page._thread is not None:
            page._thread.join()
        now += 1.0
    assert written[:3] == [100.0, 202.0, 304.0], "two seconds of work, a hundred of pause"
    page.close()


def test_a_page_that_cannot_be_written_is_reported_and_tried_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = threading.Semaphore(0)

    def write(folder: Path, *, renewed_s: float) -> None:
        tried.release()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(live_page, "write_report", write)
    page = LivePage(tmp_path, least_s=0.001)
    page.renew()
    page._thread.join()  # type: ignore[union-attr]
    assert page.failure == "report.html is not renewed any more: No space left on device"
    page.renew()
    assert tried.acquire(timeout=1)
    assert not tried.acquire(timeout=0.05)
