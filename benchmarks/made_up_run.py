"""A run folder as a training leaves it, with made-up answers to rendered questions: for pages, not for learning."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.rendered.samples import rendered_samples
from data.sample import DrivingSample
from evaluation.held_out import EvaluationResult, Judged, summarize
from evaluation.run_record import (
    EVALUATION_FOLDER,
    METRICS_FILE,
    RECIPE_FILE,
    ROLLOUT_SCHEMA,
    SAMPLES_FOLDER,
    evaluation_path,
    samples_path,
    task_reward,
)
from rewards.score import Score

GROUP = 4
"""Responses to each question of a step."""
WRONG = "I see an empty road and would go on."


def made_up_run(
    folder: Path, scenes: int = 4, steps: int = 5, rows_per_step: int = 16, seed: int = 0
) -> list[DrivingSample]:
    """Write a run's folder; the samples that it asks about.

    Args:
        folder: of the run; its images lie beside it, in `scenes`.
        scenes: rendered scenes.
        steps: of the training, each with a file of rollouts.
        rows_per_step: rollouts of a step.
        seed: of scenes and answers.
    """
    samples = rendered_samples(folder.parent / "scenes", scenes, seed)
    draw = random.Random(seed)
    for name in (SAMPLES_FOLDER, EVALUATION_FOLDER):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / RECIPE_FILE).write_text(f"run: {{name: {folder.name}, steps: {steps}, tags: [made-up]}}\n")
    lines = []
    for step in range(1, steps + 1):
        rows = [_row(samples, step, place, draw) for place in range(rows_per_step)]
        pq.write_table(pa.Table.from_pylist(rows, schema=ROLLOUT_SCHEMA), samples_path(folder, step))
        lines.append(_metrics(rows, step))
    (folder / METRICS_FILE).write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, right in (("before", 0.3), ("after", 0.7)):
        result = _evaluation(name, samples[:: max(1, len(samples) // 12)], right, draw)
        evaluation_path(folder, name).write_text(result.to_json())
    return samples


def _answered(sample: DrivingSample, right: float, draw: random.Random) -> tuple[str, float]:
    """A response and what it is worth."""
    if draw.random() < right:
        return sample.answer, draw.uniform(60.0, 100.0)
    return f"{WRONG} {sample.answer[:20]}", draw.uniform(0.0, 55.0)


def _row(samples: Sequence[DrivingSample], step: int, place: int, draw: random.Random) -> dict[str, Any]:
    group = place // GROUP
    sample = samples[(step * 31 + group * 17) % len(samples)]
    response, value = _answered(sample, min(0.9, 0.2 + 0.02 * step), draw)
    return {
        **dict.fromkeys(ROLLOUT_SCHEMA.names),
        "step": step,
        "group": group,
        "request_id": f"{step}-{place}",
        "sample_id": sample.id,
        "scene_id": sample.scene_id,
        "frame_id": sample.frame_id,
        "task": sample.task,
        "kind": sample.kind,
        "question": sample.question,
        "choices": json.dumps(sample.choices),
        "images": json.dumps(sample.images),
        "ground_truth": sample.answer,
        "response": response,
        "token_count": len(response.split()),
        "finish_reason": "stop",
        "value": value,
        "parts": json.dumps({"judge": value, "judge/concise": 8.0}),
        "weight_version": step - 1,
    }


def _metrics(rows: Sequence[dict[str, Any]], step: int) -> dict[str, Any]:
    tasks = sorted({row["task"] for row in rows})
    means = {}
    for task in tasks:
        values = [row["value"] for row in rows if row["task"] == task]
        means[task_reward(task)] = sum(values) / len(values)
    mean = sum(row["value"] for row in rows) / len(rows)
    return {"step": step, "reward/mean": mean, **means, "response/length_mean": 12.0, "response/overlong_share": 0.0,
            "rollouts/count": len(rows), "kl": 0.001 * step}  # fmt: skip


def _evaluation(name: str, samples: Sequence[DrivingSample], right: float, draw: random.Random) -> EvaluationResult:
    judged = []
    for sample in samples:
        response, value = _answered(sample, right, draw)
        judged.append(Judged(sample, response, "stop", Score(value, {"judge": value}), 12))
    return summarize(name, 0, judged)
