"""Where a run's time went, as a trace for Perfetto or Chrome: engines, their responses, and the learner beside them.

Read from what every run keeps (`samples/`, `metrics.jsonl`), so that tracing costs a run nothing and can be asked for
afterwards. Format: Google's "Trace Event Format", complete events (`ph: X`), microseconds. No torch, no ray.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.rollout import Rollout
from evaluation.ledger import updates
from evaluation.run_record import METRICS_FILE, read_lines
from evaluation.time_parts import ENGINE_PARTS, LEARN_PARTS
from rewards.group import Group, ScoredRollout

MICROSECONDS = 1e6
LEARNER, FIRST_ENGINE = 1, 2
"""Numbers of what the trace calls processes."""
STEPS, LEARNING, SYNC, INSTALLING = 1, 2, 3, 4
"""Rows of the learner."""


def trace(folder: Path, first: int | None = None, last: int | None = None) -> dict[str, Any]:
    """The trace of a run's steps.

    Args:
        folder: of the run.
        first, last: only the steps from and up to these.

    Raises:
        DataError: the run has none of these steps, or a file is damaged.
    """
    lines, _ = read_lines(folder / METRICS_FILE)
    steps = {
        line["step"]: line for line in lines if line.get("step_s") is not None and _within(line["step"], first, last)
    }
    if not steps:
        raise DataError(f"{folder} has no steps{_range(first, last)} in {METRICS_FILE}: nothing to draw")
    groups = [group for one in updates(folder) if one.step in steps for group in one.groups]
    began = min(line["time"] - line["step_s"] for line in steps.values())
    began = min([began, *(scored.rollout.started_at for group in groups for scored in group.rollouts)])
    events = [*_learner(steps.values(), began), *_engines(groups, began)]
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"run": folder.name}}


def _within(step: int, first: int | None, last: int | None) -> bool:
    return (first is None or step >= first) and (last is None or step <= last)


def _range(first: int | None, last: int | None) -> str:
    if first is None and last is None:
        return ""
    return f" from {'the first' if first is None else first} to {'the last' if last is None else last}"


def _learner(steps: Any, began: float) -> Iterator[dict[str, Any]]:
    """What the driver and the learner did, step by step; a step's line is written when its weights are published."""
    rows = {STEPS: "steps", LEARNING: "learning", SYNC: "weight sync", INSTALLING: "engines install"}
    yield from _named(LEARNER, "learner", rows)
    for line in steps:
        end, sync, learn = line["time"] - began, line.get("sync_s") or 0.0, line.get("learn_s") or 0.0
        shown = {name: line.get(name) for name in ("reward/mean", "loss", "staleness", "tokens_per_s")}
        yield _slice(LEARNER, STEPS, f"step {line['step']}", end - line["step_s"], line["step_s"], shown)
        yield _slice(LEARNER, LEARNING, "learn", end - sync - learn, learn, {})
        at = end - sync - learn
        for metric, name in LEARN_PARTS.items():
            seconds = line.get(metric) or 0.0
            if seconds:
                yield _slice(LEARNER, LEARNING, name, at, seconds, {})
                at += seconds
        yield _slice(LEARNER, SYNC, "publish", end - sync, sync, {"MiB": line.get("sync_mib")})
        at, probing = end - sync, line.get("probe_s") or 0.0
        for name in ("gather", "send"):  # bucket by bucket, drawn one after the other
            if seconds := line.get(f"{name}_s"):
                yield _slice(LEARNER, SYNC, name, at, seconds, {})
                at += seconds
        if installing := line.get("install_s"):
            yield _slice(LEARNER, INSTALLING, "install", end - probing - installing, installing, {})
        if probing:
            yield _slice(LEARNER, SYNC, "probe", end - probing, probing, {"gap": line.get("probe_gap")})


def _engines(groups: Sequence[Group], began: float) -> Iterator[dict[str, Any]]:
    """Each engine's responses, in as few rows as hold them without overlap."""
    answered: dict[str, list[tuple[Group, ScoredRollout]]] = {}
    for group in groups:
        for scored in group.rollouts:
            answered.setdefault(scored.rollout.engine, []).append((group, scored))
    for number, (engine, own) in enumerate(sorted(answered.items())):
        free: list[tuple[float, int]] = []
        rows = 0
        for group, scored in sorted(own, key=lambda one: one[1].rollout.started_at):
            rollout = scored.rollout
            if free and free[0][0] <= rollout.started_at:
                _, row = heapq.heappop(free)
            else:
                row = rows = rows + 1
            heapq.heappush(free, (rollout.finished_at, row))
            start, seconds = rollout.started_at - began, rollout.finished_at - rollout.started_at
            yield _slice(FIRST_ENGINE + number, row, group.sample.task, start, seconds, _about(group, scored))
            for part, at, took in _parts(rollout):
                if took * MICROSECONDS < 1:
                    continue
                yield _slice(FIRST_ENGINE + number, row, part, at - began, took, {})
        yield from _named(FIRST_ENGINE + number, engine, {row: f"response {row}" for row in range(1, rows + 1)})


def _parts(rollout: Rollout) -> Iterator[tuple[str, float, float]]:
    """What an engine did for a response, when and for how long: the last parts end with it, since those of a try that
    was dropped lie before them."""
    if rollout.times is None:
        return
    yield ENGINE_PARTS[0], rollout.started_at, rollout.times.prepare_s
    at = max(rollout.started_at + rollout.times.prepare_s, rollout.finished_at - sum(rollout.times[1:]))
    for part, took in zip(ENGINE_PARTS[1:], rollout.times[1:], strict=True):
        yield part, at, min(took, rollout.finished_at - at)
        at += took


def _about(group: Group, scored: ScoredRollout) -> dict[str, Any]:
    rollout = scored.rollout
    return {
        "sample": group.sample.id,
        "request": rollout.request_id,
        "tokens": len(rollout.token_ids),
        "weights": [list(span) for span in rollout.weight_spans] or rollout.weight_version,
        "scored": scored.score.value if scored.score.failure is None else scored.score.failure,
        "waited for scoring (s)": round(scored.scoring_started_at - rollout.finished_at, 4),
        "scored in (s)": None if scored.scored_at is None else round(scored.scored_at - scored.scoring_started_at, 4),
    }


def _slice(process: int, row: int, name: str, start: float, seconds: float, about: Mapping[str, Any]) -> dict[str, Any]:
    """Something that took from `start`, in seconds since the trace began."""
    began = round(start * MICROSECONDS)
    times = {"ts": began, "dur": max(1, round((start + seconds) * MICROSECONDS) - began)}
    return {"ph": "X", "pid": process, "tid": row, "name": name, "args": dict(about), **times}


def _named(process: int, name: str, rows: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    yield {"ph": "M", "pid": process, "name": "process_name", "args": {"name": name}}
    for row, called in rows.items():
        yield {"ph": "M", "pid": process, "tid": row, "name": "thread_name", "args": {"name": called}}
        yield {"ph": "M", "pid": process, "tid": row, "name": "thread_sort_index", "args": {"sort_index": row}}
