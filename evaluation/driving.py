"""What driven episodes add up to: Bench2Drive's figures by its own code, scenario by scenario. No torch, no ray.

An environment without records (a text task) has scores alone.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from data.driving.record import motion
from evaluation.bootstrap import draws, interval
from evaluation.metrics.bench2drive import composed_score, is_success, read_motion, score
from rewards.episode import Episode

FOLDER = "driving"
"""Folder of a run that holds one file for each measurement."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class EpisodeRecord(_Record):
    """One episode that was measured."""

    scenario: str
    seed: int
    part: str
    """`scenarios`: of families that are trained on; `families`: of those held out."""
    score: float | None
    """The training's own score, 0-100; None: it could not be scored."""
    failure: str | None
    record: dict[str, Any] | None
    """As Bench2Drive's leaderboard writes it; None where the environment has none."""
    trace: dict[str, Any]
    turns: int
    tokens: int
    """Of all its answers."""
    unknown_actions: int

    @property
    def driving_score(self) -> float:
        """0-100; an episode that failed has 0, as a missing route has."""
        return float(self.record["scores"]["score_composed"]) if self.record else 0.0

    @property
    def collided(self) -> bool:
        """Whether it ended in a collision."""
        infractions = self.record["infractions"] if self.record else {}
        return any(events for name, events in infractions.items() if name.startswith("collisions"))


class PartResult(_Record):
    """What some episodes add up to. Scores and shares in percent."""

    episodes: int
    failed: int
    driving_score: float
    success: float
    collisions: float
    """Per episode."""
    comfort: float | None
    turns: float
    """Mean turns of an episode."""
    tokens_per_turn: float


class DrivingResult(_Record):
    """One measurement of one weight version."""

    name: str
    weight_version: int
    parts: dict[str, PartResult]
    scenarios: dict[str, PartResult]
    """By scenario family."""
    episodes: tuple[EpisodeRecord, ...]

    def write(self, folder: Path) -> None:
        """Keep it in a run's folder, whole or not at all."""
        path = folder / FOLDER / f"{self.name}.json"
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part")
        part.write_text(self.model_dump_json())
        part.replace(path)


def read_driving(folder: Path, name: str) -> DrivingResult | None:
    """A measurement of a run; None where there is none."""
    path = folder / FOLDER / f"{name}.json"
    return DrivingResult.model_validate_json(path.read_text()) if path.is_file() else None


def driving_result(name: str, version: int, parts: Mapping[str, Sequence[Episode]]) -> DrivingResult:
    """Add up the episodes of each part."""
    records = [_record(episode, part) for part, episodes in parts.items() for episode in episodes]
    by_scenario: dict[str, list[EpisodeRecord]] = {}
    for one in records:
        by_scenario.setdefault(one.scenario, []).append(one)
    return DrivingResult(
        name=name,
        weight_version=version,
        parts={part: summed([one for one in records if one.part == part]) for part in parts},
        scenarios={scenario: summed(own) for scenario, own in by_scenario.items()},
        episodes=tuple(records),
    )


def summed(episodes: Sequence[EpisodeRecord]) -> PartResult:
    """Bench2Drive's figures of some episodes, its number of routes being theirs; without records, of scores alone."""
    known = [one.record for one in episodes if one.record is not None]
    turns = sum(one.turns for one in episodes)
    found = None
    if known:
        motions = {one.record["route_id"]: read_motion(motion(one.trace["path"])) for one in episodes if one.record}
        result = {"_checkpoint": {"records": known}}
        found = score(result, motions=motions, count=len(episodes))
    scores = [one.score for one in episodes if one.score is not None]
    return PartResult(
        episodes=len(episodes),
        failed=sum(one.failure is not None for one in episodes),
        driving_score=found.driving_score if found else (statistics.fmean(scores) if scores else 0.0),
        success=found.success_rate if found else 0.0,
        collisions=sum(one.collided for one in episodes) / max(1, len(episodes)),
        comfort=found.comfort_mended if found else None,
        turns=turns / max(1, len(episodes)),
        tokens_per_turn=sum(one.tokens for one in episodes) / max(1, turns),
    )


def paired_gain(before: Sequence[float], after: Sequence[float], seed: int = 0) -> dict[str, float | None]:
    """Mean gain of the same scenarios, with the middle 95 % of 10,000 resamples of them."""
    gains = np.array(after) - np.array(before)
    means = np.concatenate([gains[chosen].mean(axis=1) for chosen in draws(len(gains), 10_000, seed)])
    low, high, _ = interval(means)
    return {"gain": float(gains.mean()), "low": low, "high": high, "scenarios": float(len(gains))}


def outcomes(result: DrivingResult) -> Counter[str]:
    """How many episodes ended how, by Bench2Drive's status."""
    return Counter(one.record["status"] if one.record else "not scored" for one in result.episodes)


def succeeded(episode: EpisodeRecord) -> bool:
    """Whether the route was completed with no infraction."""
    return episode.record is not None and is_success(episode.record)


def _record(episode: Episode, part: str) -> EpisodeRecord:
    record = None
    if episode.record is not None and episode.failure is None:
        record = dict(episode.record)
        record["scores"] = record["scores"] | {"score_composed": composed_score(record)}
    return EpisodeRecord(
        scenario=episode.start.scenario,
        seed=episode.start.seed,
        part=part,
        score=None if episode.failure else episode.score,
        failure=episode.failure,
        record=record,
        trace=dict(episode.trace),
        turns=len(episode.turns),
        tokens=sum(len(turn.rollout.token_ids) for turn in episode.turns),
        unknown_actions=sum(event.startswith("unknown_action") for turn in episode.turns for event in turn.events),
    )
