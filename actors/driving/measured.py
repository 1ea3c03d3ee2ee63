"""Measures a policy by its episodes: the scenarios that no training draws, and the families held out."""

from __future__ import annotations

from actors.driving.environments import Environments
from actors.driving.episodes import EpisodeDriver
from actors.rollout.pool import EnginePool
from data.environment import environment_of
from data.episode import measured_starts
from data.rollout import SamplingSettings
from evaluation.driving import DrivingResult, driving_result
from recipe import ActorOptions, Recipe
from rewards.episode import Episode


async def start_driver(recipe: Recipe, engines: EnginePool, options: ActorOptions) -> EpisodeDriver | None:
    """Start the workers of the recipe's environment; None where it has none.

    Raises:
        ActorTimeout, ActorLost, DataError: a worker did not come up.
    """
    if recipe.environment is None:
        return None
    environments = await Environments.start(recipe.environment, options)
    return EpisodeDriver(environments, engines, recipe.environment, recipe.run.folder)


async def measured(driver: EpisodeDriver, recipe: Recipe, name: str, version: int) -> DrivingResult:
    """Drive what is measured once, at `evaluation.temperature`; the images are removed."""
    scenarios = environment_of(driver.settings)
    sampling = SamplingSettings(recipe.evaluation.temperature, recipe.rollout.max_tokens)
    parts: dict[str, list[Episode]] = {}
    for part, held_out in (("scenarios", False), ("families", True)):
        names = scenarios.scenarios(held_out=held_out)
        starts = measured_starts(names, driver.settings.measured_each, recipe.data.seed)
        draw = f"{name} {part}"
        parts[part], _ = await driver.drive(starts, 1, sampling, draw)
        driver.forget_frames(draw)
    return driving_result(name, version, parts)
