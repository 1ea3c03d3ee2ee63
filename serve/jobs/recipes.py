"""From a job to the recipe that its runs are started with: the service's own model and machines, the client's learning.

A run resumes whatever is there, so that the same recipe starts it, goes on after a pause, and goes on after a loss.
"""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import yaml

from cluster.errors import PlanError
from cluster.plan import check_named, resource_plan
from extension import ExtensionError
from policies.algorithms.registry import make_algorithm
from recipe import Recipe, RecipeError, dump_recipe, load_recipe
from rewards.errors import RewardError
from rewards.graders import read_grader
from rewards.grading import GRADER, GraderScorer
from serve.errors import ServiceError
from serve.jobs.requests import JobRequest, ReinforcementHyperparameters
from serve.jobs.uploads import SAMPLES

SUPERVISED_LR, REINFORCEMENT_LR = 1e-3, 2e-4
"""What `learning_rate_multiplier` multiplies; both for adapters."""
BATCH, PROMPTS, GROUP = 32, 16, 8
"""What `auto` means: answers in a supervised step, questions in one of reinforcement, responses to a question."""
EPOCHS = 3
CHECKPOINTS = 5
RESTARTS = 3
"""Of a run's engines and learners; the service's own go on for ever."""
ALWAYS = 2
"""Files of a run's checkpoints that stay; the adapters in them are copied out."""


def job_recipe(service: Recipe, base: str, job_id: str, root: Path, folder: Path, asked: JobRequest,
               samples: int) -> Recipe:  # fmt: skip
    """The recipe of a job.

    Args:
        service: the service's own.
        base: folder or hub name of the base model.
        job_id: names the run.
        root: where runs of jobs lie; the grader's file too.
        folder: of the uploaded file.
        asked: the request.
        samples: how many the file holds.

    Raises:
        ServiceError: 400, it cannot be made, or asks what this service does not have; names the field.
    """
    tree = _tree(service, base, job_id, root, folder, asked, samples)
    overrides = [*service.serve.jobs.overrides]
    overrides += [f"{key}={json.dumps(value)}" for key, value in asked.asked.x_overrides.items()]  # which YAML reads
    try:
        with tempfile.TemporaryDirectory(prefix="job-") as place:
            path = Path(place) / "recipe.yaml"
            path.write_text(yaml.safe_dump(tree, sort_keys=False))
            recipe = load_recipe([str(path), *overrides])
        _check(recipe, service, asked)
    except (RecipeError, ExtensionError, PlanError, RewardError) as error:
        said = str(error).replace(f"{path}: ", "")
        raise ServiceError(400, f"method: {said}"[:600], "invalid_job", "method") from None
    return recipe


def recipe_text(recipe: Recipe) -> str:
    """A recipe as its job keeps it."""
    return dump_recipe(recipe)


def grader_path(root: Path, job_id: str) -> Path:
    """Where a job's grader lies while its runs go; its database row has it too."""
    return root / f"{job_id}.d" / "grader.json"


def recipe_path(root: Path, job_id: str) -> Path:
    """Where a job's recipe lies, likewise."""
    return root / f"{job_id}.d" / "recipe.yaml"


def _tree(service: Recipe, base: str, job_id: str, root: Path, folder: Path, asked: JobRequest,
          samples: int) -> dict[str, Any]:  # fmt: skip
    own = asked.asked
    trained = max(1, round(samples * (1.0 - own.x_held_out)))
    batch = own.batch_size if isinstance(own.batch_size, int) else _auto_batch(asked, trained)
    epochs = own.n_epochs if own.n_epochs != "auto" else EPOCHS
    steps = own.x_steps or max(1, math.ceil(float(epochs) * trained / batch))
    if steps > service.serve.jobs.max_steps:
        raise ServiceError(
            400, f"method: {steps} steps, and a job may take {service.serve.jobs.max_steps} (serve.jobs.max_steps)",
            "invalid_job", "method",
        )  # fmt: skip
    multiplier = 1.0 if own.learning_rate_multiplier == "auto" else float(own.learning_rate_multiplier)
    policy = service.policy.model_dump(mode="json") | {"model": base}
    if own.x_rank is not None:
        if own.x_rank > service.serve.training.max_rank:
            raise ServiceError(
                400, f"x_rank={own.x_rank} is above {service.serve.training.max_rank} (serve.training.max_rank)",
                "invalid_job", "method",
            )  # fmt: skip
        policy["lora"] = policy["lora"] | {"rank": own.x_rank}
    every = own.x_checkpoint_steps or max(1, steps // CHECKPOINTS)
    tree = {
        "run": {"name": job_id, "root": str(root), "steps": steps, "seed": asked.seed, "resume": True,
                "checkpoint_every": every, "keep_last": ALWAYS, "live_report_s": 0},
        "policy": policy,
        "data": {"source": "jsonl", "options": {"annotations": str(folder / SAMPLES)}, "held_out": own.x_held_out,
                 "seed": asked.seed},
        "learner": service.learner.model_dump(mode="json") | {"restarts": RESTARTS},
        "rollout": service.rollout.model_dump(mode="json") | {"restarts": RESTARTS},
        "cluster": service.cluster.model_dump(mode="json"),
        "reward": service.reward.model_dump(mode="json"),
    }  # fmt: skip
    if isinstance(own, ReinforcementHyperparameters):
        _reinforced(tree, own, batch, multiplier, root, job_id)
    else:
        tree["run"]["steps"] = 1
        tree["warm_start"] = {"steps": steps, "batch_size": batch, "lr": SUPERVISED_LR * multiplier}
    return tree


def _reinforced(tree: dict[str, Any], own: ReinforcementHyperparameters, batch: int, multiplier: float, root: Path,
                job_id: str) -> None:  # fmt: skip
    compute = 1.0 if own.compute_multiplier == "auto" else float(own.compute_multiplier)
    tree["learner"]["lr"] = REINFORCEMENT_LR * multiplier
    tree["rollout"] |= {
        "prompts_per_step": batch,
        "group_size": own.x_group_size or max(2, round(GROUP * compute)),
        "temperature": own.x_temperature or tree["rollout"]["temperature"],
        "max_tokens": own.x_max_tokens or tree["rollout"]["max_tokens"],
    }
    tree["reward"]["routes"] = [{"scorers": {f"{GRADER}/{grader_path(root, job_id)}": 1.0}}]
    tree["algorithm"] = {"name": own.x_algorithm}
    if own.x_kl_beta is not None:
        tree["algorithm"]["options"] = {"kl_beta": own.x_kl_beta}
    tree["evaluation"] = {}
    if own.eval_interval != "auto":
        tree["evaluation"]["held_out_every"] = own.eval_interval
    if own.eval_samples != "auto":
        tree["evaluation"] |= {"held_out_per_task": own.eval_samples, "samples_per_task": own.eval_samples}
    tree["warm_start"] = {"steps": own.x_warm_start_steps, "batch_size": BATCH}


def _auto_batch(asked: JobRequest, trained: int) -> int:
    """No larger than the file."""
    return min(PROMPTS if asked.grader is not None else BATCH, trained)


def _check(recipe: Recipe, service: Recipe, asked: JobRequest) -> None:
    """See that the run could be planned, and its answers graded.

    Raises:
        PlanError, ExtensionError, RewardError: what is wrong.
    """
    roles: tuple[Any, ...] = ("learner", "rollout", "judge", "clip")
    if asked.grader is None:
        roles = ("learner",)
    else:
        GraderScorer(read_grader(asked.grader), service.reward).check()
    make_algorithm(recipe.algorithm)
    check_named(recipe, roles)
    resource_plan(recipe, roles)
