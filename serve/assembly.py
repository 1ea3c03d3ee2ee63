"""From a recipe to a service with real learners and engines, placed by the plan, on the connected Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import ray

from actors.scoring.scorers import Scorers
from cluster.placement import place
from cluster.plan import resource_plan
from data.rendered.questions import driving_text
from policies.settings import TINY
from policies.source import policy_source
from recipe import ActorOptions, Recipe, RecipeError
from serve.database.connection import Database
from serve.inference.inference import Inference
from serve.jobs.files import Files
from serve.jobs.job_keeper import JobKeeper
from serve.jobs.runs import RayRuns, Runs
from serve.rewards.reward_pool import RewardPool
from serve.training.places import Places
from serve.training.service import TrainingService
from serve.training.workers import EngineSamplePool, LearnerTrainer


def check_service_recipe(recipe: Recipe) -> None:
    """Refuse a recipe whose learners or engines could not serve several adapters.

    Raises:
        RecipeError: one sentence.
    """
    wrong = None
    if recipe.policy.lora is None or "vision" in recipe.policy.lora.targets:
        wrong = "policy.lora must be set, with attention and mlp alone: clients train adapters of the language model"
    elif recipe.policy.lora.four_bit:
        wrong = "policy.lora.four_bit rounds the base that engines hold in full, under the same adapters: leave it out"
    elif recipe.learner.zero_stage > 0:
        wrong = f"learner.zero_stage={recipe.learner.zero_stage} has room for one adapter alone: set it to 0"
    elif recipe.rollout.backend != "vllm":
        wrong = f"rollout.backend={recipe.rollout.backend} loads no adapters: set it to vllm"
    elif recipe.rollout.on_learners:
        wrong = (
            "rollout.on_learners lets engines sleep while a learner works, and clients ask both at once: leave it out"
        )
    elif recipe.rollout.max_engines not in (None, recipe.rollout.engines):
        wrong = "rollout.max_engines lets engines join a run, and a service keeps those it has: leave it out"
    elif recipe.policy.views != "six":
        wrong = (
            f"policy.views={recipe.policy.views}: clients say themselves which images a prompt shows; leave it at six"
        )
    if wrong is not None:
        raise RecipeError(f"the training service: {wrong}")


def database_of(recipe: Recipe, environment: Mapping[str, str]) -> Database:
    """The database of a service: what the environment variable names, else SQLite in its folder.

    Raises:
        DatabaseError: the address is none.
    """
    given = environment.get(recipe.serve.training.database_variable)
    return Database(given or f"sqlite:///{Places(recipe.run.folder).database}")


def base_of(recipe: Recipe) -> str:
    """Folder or hub name of the base model; the tiny one is built on the spot."""
    corpus = sorted(set(driving_text())) if recipe.policy.model == TINY else []
    return policy_source(recipe.policy, Path(recipe.run.root).expanduser(), recipe.run.seed, corpus)


def assembled(recipe: Recipe) -> TrainingService:
    """A service whose learners and engines are being launched; `open` and `start` do the rest.

    Raises:
        PlacementError: the cluster has no room for them.
        DatabaseError: the database's address is none.
    """
    check_service_recipe(recipe)
    plan = resource_plan(recipe, ("learner", "rollout", "judge", "clip"))
    database, base = database_of(recipe, os.environ), base_of(recipe)
    options = place(plan, recipe.cluster.placement_timeout_s).options
    pool = EngineSamplePool(recipe, base, options)
    service = TrainingService(recipe, base, database, LearnerTrainer(recipe, base, options), pool)
    furnish(service, recipe, ray_runs(recipe), options)
    return service


def ray_runs(recipe: Recipe) -> RayRuns:
    """Runs as jobs of the connected cluster; a cluster that was joined gets the project with each of them."""
    joined = bool(recipe.cluster.address or os.environ.get("RAY_ADDRESS"))
    return RayRuns(ray.get_runtime_context().gcs_address, recipe.serve.jobs.stop_s, ship=joined)


def furnish(service: TrainingService, recipe: Recipe, runs: Runs, options: ActorOptions) -> None:
    """Add the parts that speak OpenAI's dialect.

    Args:
        service: to which.
        recipe: its own.
        runs: where the runs of jobs go.
        options: places the judge and the CLIP, where the recipe has them.
    """
    service.add(Inference(recipe, service.base_name, service.database, service.pool, service.reader, service.metrics))
    service.add(Files(service.database, service.places, service.settings))
    keeper = JobKeeper(
        recipe, service.base_name, service.database, service.places, service.lease, service.metrics, runs
    )
    service.add(keeper)
    # Beside the jobs' runs: they keep the judge's answers there too.
    scored = recipe.model_copy(update={"run": recipe.run.model_copy(update={"root": str(keeper.root)})})
    images = service.places.root / "reward_images"
    service.add(RewardPool(recipe, images, lambda: Scorers.start(scored, options)))
