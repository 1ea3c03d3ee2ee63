"""`Crew`: everything a run keeps alive: learners, engines, the weight sync between them and the scorers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from actors.driving.episodes import EpisodeDriver
from actors.driving.measured import measured, start_driver
from actors.experience import collect_groups
from actors.learning.group import LearnerGroup
from actors.rollout.pool import EnginePool, refuse
from actors.scoring.scorers import Scorers
from actors.turns import Turns
from actors.weight_sync import WeightSync
from data.cascade import earlier_answers, first_answers, in_context
from data.quarantine import Quarantine
from data.rollout import Refusal, SamplingSettings
from data.sample import DrivingSample, in_order
from evaluation.driving import DrivingResult
from evaluation.held_out import EvaluationResult, Judged, choose, summarize
from policies.prompt import PromptEncoder
from policies.special_tokens import SpecialTokens
from recipe import ActorOptions, Recipe
from rewards.answer import answer_part
from rewards.canaries import run_canaries


@dataclass(frozen=True)
class Crew:
    """The started actors of a run."""

    recipe: Recipe
    turns: Turns
    """The learner's and the engines'."""
    engines: EnginePool
    sync: WeightSync
    scorers: Scorers
    encoder: PromptEncoder
    quarantine: Quarantine
    driver: EpisodeDriver | None = None
    """Drives the episodes, where the recipe has an environment."""

    @classmethod
    async def start(
        cls,
        recipe: Recipe,
        folder: str,
        options: ActorOptions,
        probes: Sequence[DrivingSample],
        encoder: PromptEncoder,
        quarantine: Quarantine,
        *,
        learner_class: type[Any] | None = None,
        engine_class: type[Any] | None = None,
        engines: EnginePool | None = None,
    ) -> Crew:
        """Start learners and engines at once from the checkpoint in `folder`, and connect the weight sync.

        Args:
            options: places each actor (see `cluster.placement`).
            probes: samples whose first tokens are compared after every sync.
            encoder: the policy's, for what needs no model.
            quarantine: takes the questions that an engine refuses.
            learner_class, engine_class: what runs as actors; the recipe's own unless a test puts a fault there.
            engines: those that were launched already.

        Raises:
            ActorTimeout, ActorLost: an actor did not come up.
        """
        engines = engines or EnginePool.launch(recipe, folder, options, engine_class)
        ready = asyncio.ensure_future(engines.started())

        async def started_learners() -> LearnerGroup:
            return await LearnerGroup.start(recipe, folder, options, learner_class)

        async def in_turn() -> Turns:
            if engines.guests:
                await ready
            return await Turns.start(engines, started_learners)

        turns, scorers, _, driver = await asyncio.gather(
            in_turn(), Scorers.start(recipe, options), ready, start_driver(recipe, engines, options)
        )
        sync = WeightSync(turns.learners, engines, recipe, probes)
        await sync.connect()
        engines.invite()
        return cls(recipe, turns, engines, sync, scorers, encoder, quarantine, driver)

    async def evaluate(self, name: str, samples: list[DrivingSample]) -> EvaluationResult:
        """Ask the engines every sample once and sum up the scores."""
        special, asked = self.encoder.special, self.quarantine.without(samples)
        return await ask_all(
            name, asked, self.engines, self.scorers, self.recipe, special, self.sync.version, self.quarantine.take
        )

    @property
    def learners(self) -> LearnerGroup:
        """The learner."""
        return self.turns.learners

    @property
    def metrics(self) -> dict[str, float]:
        """What became of the requests to each pool so far, for the journal."""
        environments = self.driver.environments.counts.metrics("environment") if self.driver else {}
        return self.scorers.metrics | self.engines.counts.metrics("engines") | environments

    async def drive(self, name: str) -> DrivingResult:
        """Measure the published policy by its episodes; only where there is an environment."""
        assert self.driver is not None
        return await measured(self.driver, self.recipe, name, self.sync.version)

    async def stop(self) -> None:
        """Shut the engines' own processes down; the actors themselves end with their placement."""
        await self.scorers.stop()
        if self.driver is not None:
            await self.driver.environments.close()
        await self.engines.end()


async def drive_alone(recipe: Recipe, folder: str, options: ActorOptions) -> DrivingResult:
    """Measure the checkpoint in `folder` by its episodes, with engines and environments alone.

    Raises:
        ActorLost, ActorTimeout: an engine, or every worker, stopped answering.
    """
    engines = await EnginePool.launch(recipe, folder, options).started()
    driver = await start_driver(recipe, engines, options)
    assert driver is not None
    result = await measured(driver, recipe, "evaluate", version=0)
    await driver.environments.close()
    await engines.end()
    return result


async def evaluate_alone(
    recipe: Recipe, folder: str, options: ActorOptions, samples: list[DrivingSample], special: SpecialTokens
) -> EvaluationResult:
    """Measure the checkpoint in `folder` on samples, with engines and scorers alone.

    Raises:
        ActorLost, ActorTimeout: an engine stopped answering.
    """
    engines, scorers = await asyncio.gather(
        EnginePool.launch(recipe, folder, options).started(), Scorers.start(recipe, options)
    )
    result = await ask_all("evaluate", samples, engines, scorers, recipe, special, version=0)
    await scorers.stop()
    await engines.end()
    return result


async def ask_all(
    name: str,
    samples: list[DrivingSample],
    engines: EnginePool,
    scorers: Scorers,
    recipe: Recipe,
    special: SpecialTokens,
    version: int,
    refused: Callable[[Refusal], None] = refuse,
) -> EvaluationResult:
    """Ask engines that hold weight version `version` every sample once and sum up the scores.

    What `refused` takes of those that an engine refuses is left out. Of answers that come back in later questions
    (`evaluation.cascade`) the model's special tokens are taken out.
    """
    sampling = SamplingSettings(recipe.evaluation.temperature, recipe.rollout.max_tokens)
    tasks = in_order(sample.task for sample in samples)
    rounds = [[s for s in samples if s.task == task] for task in tasks] if recipe.evaluation.cascade else [samples]
    answers: list[Judged] = []
    for asked in rounds:
        said = first_answers((one.sample, special.without(answer_part(one.text))) for one in answers)
        shown = [in_context(sample, earlier_answers(sample, said)) for sample in asked]
        draw = f"evaluation of version {version}"
        groups = await collect_groups(shown, 1, sampling, engines, scorers, draw, refused)
        answers += [
            Judged(sample, one.rollout.text, one.rollout.finish_reason, one.score, len(one.rollout.token_ids))
            for sample, group in zip(asked, groups, strict=True)
            for one in group or ()
        ]
    tried = choose(samples, recipe.evaluation.canaries_per_task, recipe.data.seed) if scorers.judge else []
    canaries = await run_canaries(scorers.judge, tried) if scorers.judge and tried else None
    return summarize(name, version, answers, canaries)
