"""The ledger of a run: what its files say of every rollout and update, and what other scores would have changed.

`samples/`, `learnt/`, `metrics.jsonl` and `syncs.jsonl` are all it reads. No torch, no ray.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data.errors import DataError
from evaluation.rollout_rows import read_rollouts
from evaluation.run_record import LEARNT_FOLDER, SAMPLES_FOLDER, SYNCS_FILE, read_lines
from rewards.group import Group, ScoredRollout


@dataclass(frozen=True)
class Update:
    """What one update learnt from."""

    step: int
    groups: tuple[Group, ...]
    """As recorded, with their advantages where the groups themselves form them."""

    @property
    def rollouts(self) -> list[ScoredRollout]:
        """All of them, group by group."""
        return [scored for group in self.groups for scored in group.rollouts]

    @property
    def versions(self) -> tuple[int, int]:
        """The oldest and the newest weight version that produced a response."""
        found = [scored.rollout.weight_version for scored in self.rollouts]
        return min(found), max(found)


@dataclass(frozen=True)
class Changes:
    """What other scores make of an update's groups. Rewards are on 0-100."""

    step: int
    responses: int
    compared: int
    """Responses with an advantage in both; the others are masked, or their algorithm forms advantages over a batch."""
    reward: tuple[float | None, float | None]
    """The mean then and now."""
    largest: float
    """Largest change of an advantage."""
    turned: int
    """Responses whose advantage has another sign now: pushed where they were held back, or the other way."""
    silenced: int
    """Groups that taught something then and would not now."""
    awakened: int
    """Groups that taught nothing then and would now."""


def updates(folder: Path, step: int | None = None) -> Iterator[Update]:
    """The updates of a run, in order; or the one of a step.

    Raises:
        DataError: the folder holds no rollouts (of that step), or a file is damaged.
    """
    paths = sorted((folder / SAMPLES_FOLDER).glob("step_*.parquet"))
    numbered = {int(path.stem.removeprefix("step_")): path for path in paths}
    if not numbered:
        raise DataError(f"{folder} holds no rollouts: there is no {SAMPLES_FOLDER}/step_*.parquet in it")
    if step is not None and step not in numbered:
        raise DataError(f"{folder} holds no rollouts of step {step}; it has steps {min(numbered)} to {max(numbered)}")
    for number, path in numbered.items():
        if step in (None, number):
            yield Update(number, tuple(read_rollouts(path)[0]))


def changes(step: int, then: Sequence[Group], now: Sequence[Group]) -> Changes:
    """Compare the groups of an update as they were with the same groups scored, or valued, anew."""
    pairs = list(zip(_advantages(then), _advantages(now), strict=True))
    known = [(a, b) for a, b in pairs if a is not None and b is not None]
    teaching = [(_teaches(a), _teaches(b)) for a, b in zip(then, now, strict=True)]
    return Changes(
        step=step,
        responses=len(pairs),
        compared=len(known),
        reward=(_mean_reward(then), _mean_reward(now)),
        largest=max((abs(a - b) for a, b in known), default=0.0),
        turned=sum(a * b < 0 for a, b in known),
        silenced=sum(before and not after for before, after in teaching),
        awakened=sum(after and not before for before, after in teaching),
    )


def find_rollout(folder: Path, name: str) -> tuple[Update, Group, ScoredRollout]:
    """One rollout by its request id, of which the beginning is enough, with its group and update.

    Raises:
        DataError: no rollout, or more than one, has an id that begins so.
    """
    found = [
        (update, group, scored)
        for update in updates(folder)
        for group in update.groups
        for scored in group.rollouts
        if scored.rollout.request_id.startswith(name)
    ]
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataError(f"no rollout of {folder} has an id that begins with {name}; --step N lists those of a step")
    raise DataError(f"{len(found)} rollouts of {folder} have an id that begins with {name}: give more of it")


def learnt(folder: Path, step: int) -> dict[str, dict[str, Any]]:
    """What the learner's ranks saw of a step's responses, by request id; empty for runs of before, and without room."""
    rows: dict[str, dict[str, Any]] = {}
    for path in sorted((folder / LEARNT_FOLDER).glob(f"step_{step:06d}.rank_*.parquet")):
        try:
            rows |= {row["request_id"]: row for row in pq.read_table(path).to_pylist()}
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{path} is damaged ({type(error).__name__})") from None
    return rows


def largest_gap(groups: Sequence[Group], used: Mapping[str, Mapping[str, Any]]) -> float | None:
    """The largest difference between the groups' advantages and those that the learner used; None without any."""
    gaps = [
        abs(advantage - statistics.fmean(used[scored.rollout.request_id]["advantages"]))
        for group in groups
        for scored, advantage in zip(group.rollouts, group.advantages, strict=False)
        if advantage is not None and scored.rollout.request_id in used
    ]
    return max(gaps, default=None)


def published(folder: Path, version: int) -> dict[str, Any] | None:
    """What is recorded of a weight version's way to the engines; None for the first, and for runs of before."""
    lines, _ = read_lines(folder / SYNCS_FILE)
    return next((line for line in reversed(lines) if line.get("version") == version), None)


def _advantages(groups: Sequence[Group]) -> list[float | None]:
    return [one for group in groups for one in (group.advantages or (None,) * len(group.rollouts))]


def _teaches(group: Group) -> bool:
    return any(group.advantages)


def _mean_reward(groups: Sequence[Group]) -> float | None:
    rewards = [reward for group in groups for reward in group.rewards]
    return statistics.fmean(rewards) if rewards else None
