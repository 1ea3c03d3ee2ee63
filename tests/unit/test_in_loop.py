"""Benchmarks beside the training: what goes wrong there is reported and counted, and the training goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from actors.measuring.answerer import EngineAnswerer
from actors.measuring.benchmark import Benchmark, load_benchmarks
from actors.measuring.in_loop import InLoop
from actors.record.journal import Journal
from actors.record.run_folder import JOB_VARIABLE, check_paths
from data.errors import DataError
from data.sample import DrivingSample
from evaluation.held_out import EvaluationResult, Judged, summarize
from evaluation.suites.registry import suites_of
from failures import ActorTimeout, RunFolderError
from recipe import Recipe, load_recipe
from rewards.score import Score
from tests.drawn import written

ROOT = Path(__file__).parents[2]


class Journals:
    def __init__(self) -> None:
        self.warned: list[tuple[int, str, str]] = []

    def warn(self, step: int, kind: str, message: str) -> None:
        self.warned.append((step, kind, message))


async def export(folder: Path) -> None:
    folder.mkdir(parents=True)


def recipe(folder: Path, **suites: object) -> Recipe:
    loaded = load_recipe([str(ROOT / "recipes" / "tiny.yaml"), f"run.root={folder}", "evaluation.every=2"])
    return loaded.model_copy(update={"evaluation": loaded.evaluation.model_copy(update={"suites": suites})})


async def test_engines_that_do_not_come_up_are_reported_and_leave_no_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any, **__: Any) -> EngineAnswerer:
        raise ActorTimeout("benchmark engine 0 (start) gave no answer within 5 s")

    monkeypatch.setattr(EngineAnswerer, "start", fails)
    suite, options = suites_of({"rendered": {"scenes": 2}})["rendered"]
    benchmark, journal = Benchmark.load("rendered", suite, options, 0, tmp_path), Journals()
    in_loop = InLoop(
        recipe(tmp_path), [benchmark], tmp_path, lambda role, index: {}, cast(Journal, journal), judge=None
    )
    for step in (1, 2):  # only the second is due
        await in_loop.begin(step, export)
    await in_loop.finish(wait=True)
    ((step, kind, message),) = journal.warned
    assert (step, kind) == (2, "benchmark_failed")
    assert "benchmark engine 0 (start) gave no answer" in message
    assert not list((tmp_path / "benchmarks").rglob("policy"))


def test_a_submitted_job_takes_no_relative_path_of_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(JOB_VARIABLE, "{}")
    with pytest.raises(RunFolderError, match=r"evaluation\.suites\.drivelm_hard\.answers=hard\.jsonl is relative"):
        check_paths(recipe(tmp_path, drivelm_hard={"answers": "hard.jsonl"}))


def test_what_a_benchmark_lacks_is_reported_in_the_words_of_the_recipe(tmp_path: Path) -> None:
    answers = written(tmp_path / "test_eval.json", {})
    with pytest.raises(DataError, match=r"^evaluation\.suites\.drivelm\.image_root is not given: to ask a model"):
        load_benchmarks(recipe(tmp_path, drivelm={"answers": answers}))


async def test_the_runs_own_held_out_questions_become_curves_of_the_steps_that_are_due(tmp_path: Path) -> None:
    recorded: list[tuple[int, str, dict[str, float]]] = []

    class Keeps(Journals):
        def record_benchmark(self, step: int, suite: str, figures: dict[str, float]) -> None:
            recorded.append((step, suite, figures))

    async def held_out() -> EvaluationResult:
        sample = DrivingSample("q", "s", "f", "signs", "open_ended", "Q?", "A.", {})
        return summarize("on the way", 0, [Judged(sample, "A.", "stop", Score(60.0, {}), 2)])

    given = recipe(tmp_path)
    given = given.model_copy(update={"evaluation": given.evaluation.model_copy(update={"held_out_every": 3})})
    in_loop = InLoop(given, [], tmp_path, lambda role, index: {}, cast(Journal, Keeps()), None, held_out)
    for step in range(1, 8):
        await in_loop.begin(step, export)
    assert [(step, suite) for step, suite, _ in recorded] == [(3, "held_out"), (6, "held_out")]
    assert {name: value for name, value in recorded[0][2].items() if name != "seconds"} == {
        "signs": 60.0,
        "reward": 60.0,
    }
