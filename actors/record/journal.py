"""The journal of a run: metrics, curves, every rollout and every evaluation, written as they happen.

What it writes is named and read back by `evaluation/run_record.py`.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from actors.record.exporter import Exporter
from actors.record.job_page import JobPage
from actors.record.live_page import LivePage
from actors.record.terminal import LiveTable
from actors.record.tracker import Trackers
from evaluation import run_record as names
from evaluation.held_out import EvaluationResult
from evaluation.step_panels import step_panels
from failures import DiskFull, is_full, writing
from recipe import Recipe
from rewards.alarm import AlarmWatch
from rewards.group import Group
from rewards.returned import seem_fractions


class Journal:
    """Writes a run's records into its folder; a context manager that closes itself.

    Every file is complete after every call: `metrics.jsonl` grows by whole lines that reach the disk at once, the other
    files are renamed into place. A step recorded again (after a resume) replaces the earlier record for its readers.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        """Open the journal in an existing run folder (see `actors/record/run_folder.py`)."""
        self._folder = folder
        self.step = 0
        """The step after which the run goes on, or that was recorded last."""
        self._metrics_path = folder / names.METRICS_FILE
        self._watch = AlarmWatch(recipe.reward.alarm)
        self._seemed_fractions: set[str] = set()
        self._table = LiveTable(recipe.run.name, recipe.run.steps)
        self._page = LivePage(folder, recipe.run.live_report_s)
        self._trackers = Trackers(recipe, folder)
        self._job_page = JobPage(folder, recipe.run.steps)
        self.exporter = Exporter(recipe)
        """Shows the same figures to Prometheus."""
        self._curves: SummaryWriter | None = None
        self._without_curves = False
        (folder / names.SAMPLES_FOLDER).mkdir(exist_ok=True)
        (folder / names.EVALUATION_FOLDER).mkdir(exist_ok=True)
        for path in (self._metrics_path, folder / names.ALARMS_FILE):
            _end_last_line(path)

    def record(self, step: int, groups: Sequence[Group], metrics: Mapping[str, float]) -> None:
        """Record a finished step: one line of metrics, its curves, all its rollouts, and the live table.

        A metric that is not finite is written as null and named under `not_finite`.

        Raises:
            ValueError: a metric carries the name of a panel that the journal computes itself.
        """
        panels = step_panels(groups)
        if clashing := sorted(panels.keys() & metrics.keys()):
            raise ValueError(f"the journal computes {', '.join(clashing)} itself: rename the loop's metric")
        merged = {name: float(value) for name, value in {**panels, **metrics}.items()}
        self._append_line(step, merged)
        self._draw_curves(step, merged)
        self._trackers.samples(step, groups)
        self._table.update(step, merged)
        self.exporter.observe(step, merged)
        self._job_page.show(step, merged)
        self.step = step
        self._renew_page()
        for alarm in self._watch.observe({"step": step, **merged}):
            self._warn(asdict(alarm))
        for name in seem_fractions(scored.score.parts for group in groups for scored in group.rollouts):
            if name not in self._seemed_fractions:
                self._seemed_fractions.add(name)
                said = f"every score of {name} lies between 0 and 1; rewards run from 0 to 100 here: multiply it by 100"
                self.warn(step, "reward_scale", said)

    def warn(self, step: int, kind: str, message: str) -> None:
        """Keep something that calls for a person, and tell it."""
        self._warn({"step": step, "kind": kind, "message": message})

    def record_benchmark(self, step: int, suite: str, figures: Mapping[str, float]) -> None:
        """Keep what a benchmark measured of the policy after `step`, in the metrics of that step and as curves."""
        named = {names.benchmark_figure(suite, figure): value for figure, value in figures.items()}
        self._append_line(step, named)
        self._draw_curves(step, named)

    def record_evaluation(self, result: EvaluationResult) -> None:
        """Keep an evaluation in `evaluation/<name>.json` and its means as curves over the weight version.

        Raises:
            ValueError: the result's name is not a plain file name.
        """
        _replace(names.evaluation_path(self._folder, result.name), result.to_json().encode())
        scalars = {"reward": result.reward, "behavior_accuracy": result.behavior_accuracy}
        scalars |= {f"reward_{task}": of_task.reward for task, of_task in result.tasks.items()}
        named = {f"evaluation_{result.name}/{name}": value for name, value in scalars.items() if value is not None}
        self._draw_curves(result.weight_version, named)
        self._renew_page()

    def close(self) -> None:
        """Flush and close everything; safe to call twice."""
        self._page.close()
        self._trackers.close()
        self._tell_trackers_failures()
        self._table.close()
        self.exporter.close()
        if self._curves is not None:
            self._curves.close()
            self._curves = None

    def __enter__(self) -> Journal:
        """Return the journal itself; the page can be watched from here on."""
        self._renew_page()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the journal, whatever ended the block."""
        self.close()

    def _tell_trackers_failures(self) -> None:
        for failure in self._trackers.failures():
            self.warn(self.step, "tracker_left_out", failure)

    def _renew_page(self) -> None:
        reported = self._page.failure
        self._page.renew()
        if self._page.failure is not None and self._page.failure != reported:
            self.warn(self.step, "no_live_report", self._page.failure)

    def _draw_curves(self, step: int, scalars: Mapping[str, float]) -> None:
        """Add a point to each curve; what an interrupted run left of steps that are taken again is void.

        Where there is no room for them the run goes on without curves: `metrics.jsonl` holds the same.
        """
        self._trackers.scalars(step, scalars)
        self._tell_trackers_failures()
        if self._without_curves:
            return
        try:
            if self._curves is None:
                self._curves = SummaryWriter(str(self._folder / names.TENSORBOARD_FOLDER), purge_step=self.step + 1)
            for name, value in scalars.items():
                self._curves.add_scalar(name, value, step)
            self._curves.flush()
        except OSError as error:
            if not is_full(error):
                raise
            self._without_curves, self._curves = True, None  # its thread has ended: closing it would raise again
            self.warn(step, "no_room_for_curves", "no room to write curves for TensorBoard: they end here")

    def _warn(self, alarm: dict[str, Any]) -> None:
        with (self._folder / names.ALARMS_FILE).open("a") as file:
            file.write(json.dumps(alarm) + "\n")
        self._table.warn(f"alarm at step {alarm['step']}: {alarm['message']}")

    def _append_line(self, step: int, metrics: Mapping[str, float]) -> None:
        not_finite = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        line: dict[str, Any] = {"step": step, "time": time.time()}
        line |= {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        if not_finite:
            line["not_finite"] = not_finite
        with writing(self._metrics_path), self._metrics_path.open("a") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def _end_last_line(path: Path) -> None:
    """End a line that a crash cut off, so that the next one is readable; the reader counts the broken one."""
    if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
        with path.open("ab") as file:
            file.write(b"\n")


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees the old one or the new one, never half of it."""
    part = path.with_suffix(path.suffix + ".part")
    try:
        with writing(path):
            part.write_bytes(content)
            part.replace(path)
    except DiskFull:
        part.unlink(missing_ok=True)
        raise
