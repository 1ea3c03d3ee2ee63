"""`RewardPool`: the part of the service that scores answers, by the same judge, CLIP, cache and limits as runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.scoring.scorers import Scorers
from data.sample import DrivingSample
from recipe import Recipe
from rewards.errors import RewardError
from rewards.graders import FIELDS, read_grader
from rewards.grading import FAILURES, GraderFailed, GraderScorer, fields_of
from rewards.judge import JudgeFailed
from rewards.route import Router
from rewards.score import Score
from serve.admission import FairQueue
from serve.chat import read_as
from serve.errors import ServiceError
from serve.rewards.requests import ImageShelf, RewardItem, RewardRequest, RewardSample

AT_ONCE, WAITING = 8, 256
"""Requests that are scored at once, and that may wait; each holds many answers."""
KEPT_S = 3600.0
"""How long the image of a sample is kept after it was last shown."""
ERRORS = (
    "formula_parse_error",
    "invalid_variable_error",
    "model_grader_parse_error",
    "model_grader_refusal_error",
    "model_grader_server_error",
    "other_error",
    "python_grader_runtime_error",
    "python_grader_server_error",
    "sample_parse_error",
    "truncated_observation_error",
    "unresponsive_reward_error",
)
"""What OpenAI's clients expect to read of a grader's run."""


class RewardPool:
    """A part of the service (`serve.training.service.Part`)."""

    def __init__(self, recipe: Recipe, folder: Path, start: Callable[[], Awaitable[Scorers]]) -> None:
        """Score as the recipe's `reward` says.

        Args:
            recipe: the service's.
            folder: for images.
            start: starts judge and CLIP, where the recipe has them.
        """
        self.settings, self._limits, self._start = recipe.reward, recipe.serve, start
        self._shelf = ImageShelf(folder, int(recipe.serve.max_megapixels * 1e6))
        self._queue = FairQueue(AT_ONCE, WAITING)
        self._scorers: Scorers | None = None
        self._swept = 0.0

    async def start(self) -> None:
        """Start judge and CLIP."""
        self._scorers = await self._start()

    async def stop(self) -> None:
        """Let go of them."""
        if self._scorers is not None:
            await self._scorers.stop()

    @property
    def scorers(self) -> Scorers:
        """Judge, CLIP and routes.

        Raises:
            ServiceError: 503, they are not there yet.
        """
        if self._scorers is None:
            raise ServiceError(503, "the rewards are starting: try again", "not_ready", retry_after_s=1)
        return self._scorers

    def grader(self, given: Any, fields: tuple[str, ...] | None = FIELDS) -> GraderScorer:
        """A client's grader.

        Raises:
            ServiceError: 400, it is none, or asks what is not there.
        """
        try:
            found = GraderScorer(read_grader(given, fields), self.settings)
            found.check()
        except RewardError as error:
            raise ServiceError(400, f"grader: {error}"[:600], "invalid_grader", "grader") from None
        return found

    async def scored(self, tenant: str, asked: RewardRequest) -> list[dict[str, Any]]:
        """What each answer of a request is worth.

        Raises:
            ServiceError: 400, an item cannot be scored so; 429, too many wait; 504, it took too long.
        """
        grader = None if asked.grader is None else self.grader(asked.grader)
        limit = self._limits.timeout_s
        try:
            async with asyncio.timeout(limit), self._queue.place(tenant):
                samples = await asyncio.to_thread(self._samples, asked)
                self._check(samples, grader)
                pairs = zip(asked.items, samples, strict=True)
                scores = await asyncio.gather(*(self._score(item, sample, grader) for item, sample in pairs))
        except TimeoutError:
            raise ServiceError(504, f"the answers were not scored within {limit:g} s", "timeout") from None
        router = self.scorers.router
        return [
            reward_body(at, score, _rubrics(grader, router, sample))
            for at, (score, sample) in enumerate(zip(scores, samples, strict=True))
        ]

    def _samples(self, asked: RewardRequest) -> list[DrivingSample]:
        if time.monotonic() > self._swept + KEPT_S:
            self._swept = time.monotonic()
            self._shelf.clear(time.time() - KEPT_S)
        return [self._shelf.sample(item.sample, f"items.{at}.sample") for at, item in enumerate(asked.items)]

    def _check(self, samples: list[DrivingSample], grader: GraderScorer | None) -> None:
        for at, sample in enumerate(samples):
            try:
                if grader is None:
                    self.scorers.router.check_routes([sample])
                elif (fault := grader.fault(sample)) is not None:
                    raise RewardError(fault)
            except RewardError as error:
                raise ServiceError(400, f"items.{at}: {error}"[:600], "no_reward", f"items.{at}") from None

    async def _score(self, item: RewardItem, sample: DrivingSample, grader: GraderScorer | None) -> Score:
        scorers = self.scorers
        if grader is None:
            return await scorers.router.score(sample, item.answer, item.finish_reason)
        try:
            return await grader.score(scorers.judge, scorers.clip, sample, item.answer)
        except FAILURES as error:
            return Score(0.0, failure=str(error))

    async def graded(self, tenant: str, given: Any, output: str, item: dict[str, Any]) -> dict[str, Any]:
        """What OpenAI's `graders/run` answers: `reward` is a number, 0 under an error that `metadata` flags and tells.

        Raises:
            ServiceError: 400, the grader is none; 429, 504 as `scored`.
        """
        grader = self.grader(given, None)
        began, errors, limit = time.monotonic(), dict[str, Any](dict.fromkeys(ERRORS, False)), self._limits.timeout_s
        fields = {key: value if isinstance(value, str) else str(value) for key, value in item.items()}
        reward, parts, failure = 0.0, dict[str, float](), None
        try:
            async with asyncio.timeout(limit), self._queue.place(tenant):
                sample = await asyncio.to_thread(self._sample_of, item)
                named = fields_of(sample) | fields if sample is not None else fields
                graded = await grader.graded(self.scorers.judge, self.scorers.clip, named, output, sample)
                reward, parts = graded.reward, graded.parts
        except GraderFailed as error:
            failure = str(error)
            missing = "to fill in" in error.detail
            errors["invalid_variable_error" if missing else "other_error"] = True
            errors["model_grader_server_error_details"] = None
        except JudgeFailed as error:
            failure = str(error)
            errors[_judge_error(error)] = True
            errors["model_grader_server_error_details"] = str(error)[:300]
        except FAILURES as error:
            failure = str(error)
            errors["other_error"] = True
        except TimeoutError:
            raise ServiceError(504, f"the grader gave no number within {limit:g} s", "timeout") from None
        kind = grader.grader
        return {
            "reward": reward,
            "sub_rewards": parts,
            "model_grader_token_usage_per_model": {},
            "metadata": {
                "name": kind.name,
                "type": kind.type,
                "errors": errors,
                "execution_time": time.monotonic() - began,
                "failure": failure,
                "scores": {kind.name: reward} | parts,
                "token_usage": None,
                "sampled_model_name": None,
            },
        }

    def _sample_of(self, item: dict[str, Any]) -> DrivingSample | None:
        """The driving question in an item, where it is one."""
        known = {key: item[key] for key in RewardSample.model_fields if key in item}
        if not isinstance(known.get("question"), str) or not known["question"]:
            return None
        return self._shelf.sample(read_as(RewardSample, known, "item"), "item")


def reward_body(at: int, score: Score, rubrics: dict[str, str]) -> dict[str, Any]:
    """A score as the API gives it: no value where it failed, which is never a zero."""
    return {
        "object": "reward",
        "index": at,
        "value": None if score.failure else score.value,
        "parts": score.parts,
        "rubrics": rubrics,
        "increments": None if score.increments is None else [asdict(one) for one in score.increments],
        "failure": score.failure,
    }


def _rubrics(grader: GraderScorer | None, router: Router, sample: DrivingSample) -> dict[str, str]:
    """The judge's rubrics that were used, each with the hash of its text, by scorer."""
    return router.rubrics(sample) if grader is None else grader.rubrics(sample)


def _judge_error(error: JudgeFailed) -> str:
    if error.reason == "invalid_reply":
        return "model_grader_parse_error"
    return "model_grader_refusal_error" if error.reason == "refused" else "model_grader_server_error"
