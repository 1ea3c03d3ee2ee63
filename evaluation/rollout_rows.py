"""The rollouts of a step on disk, one row each: written before they are learnt from, and read back as they were."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from data.rollout import EngineTimes, Rollout, WeightSpan
from data.sample import DrivingSample
from evaluation.run_record import ROLLOUT_SCHEMA
from failures import DiskFull, writing
from rewards.group import Group, ScoredRollout
from rewards.score import Increment, Score


def write_rollouts(path: Path, step: int, groups: Sequence[Group], about: Mapping[str, Any]) -> None:
    """Keep the rollouts of a step in `path`, whole or not at all, with what is to be known of the step beside them.

    Raises:
        DiskFull: there is no room.
    """
    rows = [row for index, group in enumerate(groups) for row in _rows(step, index, group)]
    schema = ROLLOUT_SCHEMA.with_metadata({"batch": json.dumps(dict(about))})
    part = path.with_suffix(".parquet.part")
    table = pa.Table.from_pylist(rows, schema=schema)
    try:
        with writing(path):
            pq.write_table(table, part)
            part.replace(path)
    except DiskFull:
        part.unlink(missing_ok=True)
        raise


def read_rollouts(path: Path, samples: Mapping[str, DrivingSample] | None = None) -> tuple[list[Group], dict[str, Any]]:
    """The groups of a step with the advantages that were recorded, and what was kept beside them.

    Args:
        path: as it was written.
        samples: the questions by id; None: as far as the file itself tells them.

    Raises:
        DataError: the file is damaged or of an earlier version, or a question is not among the samples.
    """
    try:
        table = pq.read_table(path)
        about = json.loads((table.schema.metadata or {})[b"batch"])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{path} is damaged, or of an earlier version ({type(error).__name__})") from None
    groups: dict[int, list[dict[str, Any]]] = {}
    for row in table.to_pylist():
        groups.setdefault(row["group"], []).append(row)
    if samples is None:
        samples = {rows[0]["sample_id"]: _sample(rows[0]) for rows in groups.values()}
    if unknown := [rows[0]["sample_id"] for rows in groups.values() if rows[0]["sample_id"] not in samples]:
        raise DataError(f"{path} is about {unknown[0]}, which the data does not hold any more")
    return [_group(samples, rows) for _, rows in sorted(groups.items())], about


def _group(samples: Mapping[str, DrivingSample], rows: list[dict[str, Any]]) -> Group:
    advantages = tuple(row["advantage"] for row in rows)
    recorded = advantages if any(one is not None for one in advantages) else ()
    return Group(samples[rows[0]["sample_id"]], tuple(map(_scored, rows)), advantages=recorded)


def _sample(row: Mapping[str, Any]) -> DrivingSample:
    """The question of a row."""
    plain = {name: row[name] for name in ("scene_id", "frame_id", "task", "kind", "question")}
    shown = {name: json.loads(row[name]) for name in ("images", "choices")}
    return DrivingSample(id=row["sample_id"], answer=row["ground_truth"], **plain, **shown)


def _rows(step: int, index: int, group: Group) -> list[dict[str, Any]]:
    """One row per rollout of a group, with the columns of `ROLLOUT_SCHEMA`."""
    sample = group.sample
    about_sample = {
        "step": step,
        "group": index,
        "sample_id": sample.id,
        "scene_id": sample.scene_id,
        "frame_id": sample.frame_id,
        "task": sample.task,
        "kind": sample.kind,
        "question": sample.question,
        "choices": json.dumps(sample.choices),
        "images": json.dumps(sample.images),
        "ground_truth": sample.answer,
    }
    advantages = group.advantages or (None,) * len(group.rollouts)
    return [
        about_sample | _row(scored) | {"advantage": advantage}
        for scored, advantage in zip(group.rollouts, advantages, strict=True)
    ]


def _row(scored: ScoredRollout) -> dict[str, Any]:
    rollout, score = scored.rollout, scored.score
    increments = None if score.increments is None else json.dumps([[one.gain, one.end] for one in score.increments])
    return {
        "request_id": rollout.request_id,
        "response": rollout.text,
        "token_count": len(rollout.token_ids),
        "finish_reason": rollout.finish_reason,
        "value": score.value if score.failure is None else None,
        "parts": json.dumps(score.parts),
        "failure": score.failure,
        "seed": rollout.seed,
        "weight_version": rollout.weight_version,
        "weight_spans": json.dumps(rollout.weight_spans),
        "dropped": rollout.dropped,
        "engine": rollout.engine,
        "started_at": rollout.started_at,
        "finished_at": rollout.finished_at,
        "scoring_started_at": scored.scoring_started_at,
        "scored_at": scored.scored_at,
        "engine_times": rollout.times,
        "logprob_mean": statistics.fmean(rollout.logprobs) if rollout.logprobs else None,
        "increments": increments,
        "prompt_ids": rollout.prompt_ids,
        "token_ids": rollout.token_ids,
        "logprobs": rollout.logprobs,
    }


def _scored(row: Mapping[str, Any]) -> ScoredRollout:
    """The rollout of a row."""
    rollout = Rollout(
        request_id=row["request_id"],
        sample_id=row["sample_id"],
        prompt_ids=tuple(row["prompt_ids"]),
        token_ids=tuple(row["token_ids"]),
        logprobs=tuple(row["logprobs"]),
        text=row["response"],
        finish_reason=row["finish_reason"],
        weight_version=row["weight_version"],
        engine=row["engine"],
        started_at=row["started_at"],
        finished_at=row["finished_at"],
        seed=row.get("seed"),  # not in files of before it was kept, like what follows
        weight_spans=tuple(WeightSpan(*span) for span in json.loads(row.get("weight_spans") or "[]")),
        dropped=row.get("dropped") or 0,
        times=EngineTimes(*times) if (times := row.get("engine_times")) else None,
    )
    gains = None if row["increments"] is None else tuple(Increment(*one) for one in json.loads(row["increments"]))
    score = Score(row["value"] or 0.0, json.loads(row["parts"]), gains, row["failure"])
    return ScoredRollout(rollout, score, row["scoring_started_at"], row.get("scored_at"))
