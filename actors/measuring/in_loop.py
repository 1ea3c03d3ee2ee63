"""Measurements during training: of the run's own held-out questions on its engines, and of benchmarks beside it.

Every k steps a snapshot of the policy is measured by benchmarks on engines of its own.

Training goes on meanwhile; it waits for the export of the snapshot alone. The figures become curves at the step whose
weights they belong to.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from actors.measuring.answerer import EngineAnswerer
from actors.measuring.benchmark import Asking, Benchmark, measure
from actors.record.journal import Journal
from data.rollout import SamplingSettings
from evaluation.held_out import EvaluationResult
from evaluation.pages.suite_report import write_suite_report
from evaluation.suites.record import SuiteRecord
from failures import LearnerLost
from recipe import ActorOptions, Recipe
from rewards.judge import Judge

FOLDER = "benchmarks"
HELD_OUT = "held_out"
"""What the run's own held-out questions are called among the benchmarks."""


class InLoop:
    """Measures one snapshot at a time. One that is due while another is measured is left out, with a warning."""

    def __init__(
        self,
        recipe: Recipe,
        benchmarks: Sequence[Benchmark],
        folder: Path,
        options: ActorOptions,
        journal: Journal,
        judge: Judge | None,
        held_out: Callable[[], Awaitable[EvaluationResult]] | None = None,
    ) -> None:
        """Measure into `folder/benchmarks`; `options` places the engines, which have the role `benchmark`.

        `held_out` measures the policy that was published last on the run's own questions.
        """
        self._held_out = held_out
        # A snapshot holds whole weights, adapters merged.
        policy = recipe.policy.model_copy(update={"lora": None})
        rollout = recipe.rollout.model_copy(update={"adapters": "merged", "engines": recipe.evaluation.engines})
        self._recipe = recipe.model_copy(update={"policy": policy, "rollout": rollout})
        self._benchmarks, self._folder = benchmarks, folder / FOLDER
        self._options, self._journal, self._judge = options, journal, judge
        self._running: asyncio.Task[None] | None = None

    async def begin(self, step: int, export: Callable[[Path], Awaitable[None]]) -> None:
        """Measure the policy after `step`: at once on held-out questions, and begin with the benchmarks, where due.

        `export` writes the policy into a folder.
        """
        every = self._recipe.evaluation.held_out_every
        if self._held_out is not None and every and step % every == 0:
            began, result = time.time(), await self._held_out()
            figures = {task: of_task.reward for task, of_task in result.tasks.items()} | {"reward": result.reward}
            known = {name: value for name, value in figures.items() if value is not None}
            self._journal.record_benchmark(step, HELD_OUT, known | {"seconds": time.time() - began})
        if not self._benchmarks or step % self._recipe.evaluation.every:
            return
        if self._running is not None and not self._running.done():
            self._journal.warn(step, "benchmark_left_out", f"step {step} is not measured: the one before still is")
            return
        snapshot = self._folder / f"step_{step:06d}" / "policy"
        # An earlier session may have measured this step and then stopped; its weights of this step are lost.
        await asyncio.to_thread(shutil.rmtree, snapshot.parent, ignore_errors=True)
        try:
            await export(snapshot)
        except LearnerLost as error:  # the next step finds it, and starts the learner anew
            self._journal.warn(step, "benchmark_failed", f"the policy of step {step} was not measured: {error}")
            return
        self._running = asyncio.create_task(self._measure(step, snapshot))

    async def finish(self, *, wait: bool) -> None:
        """Wait for what is being measured, or give it up; its replies are kept."""
        if self._running is None:
            return
        if wait:
            await self._running
            return
        self._running.cancel()
        await asyncio.wait([self._running])

    async def _measure(self, step: int, snapshot: Path) -> None:
        """Measure all benchmarks; a failure is printed and counted, and does not end the training."""
        began, answerer = time.time(), None
        try:
            answerer = await EngineAnswerer.start(self._recipe, str(snapshot), self._options, "benchmark")
            for benchmark in self._benchmarks:
                folder = snapshot.parent / benchmark.name
                judge = self._judge if benchmark.suite.judged else None
                record = await measure(benchmark, answerer, judge, self._asking(step, judge), folder)
                await asyncio.to_thread(write_suite_report, folder)
                self._journal.record_benchmark(step, benchmark.name, _means(record) | {"seconds": time.time() - began})
        except Exception as error:  # whatever it is, it is not the training's
            self._journal.warn(step, "benchmark_failed", f"the policy of step {step} was not measured: {error}")
        finally:
            if answerer is not None:
                await answerer.stop()
            await asyncio.to_thread(shutil.rmtree, snapshot, ignore_errors=True)

    def _asking(self, step: int, judge: Judge | None) -> Asking:
        evaluation, settings = self._recipe.evaluation, self._recipe.reward.judge
        sampling = SamplingSettings(evaluation.temperature, self._recipe.rollout.max_tokens, self._recipe.data.seed)
        named = settings.model if settings is not None and judge is not None else None
        return Asking(f"{self._recipe.run.name}, step {step}", sampling, 1, named, {"step": step})


def _means(record: SuiteRecord) -> dict[str, float]:
    return {name: figure.mean for name, figure in record.figures.items() if figure is not None}
