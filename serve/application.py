"""The policy endpoint as Ray Serve's own config files name it: `import_path: serve.application:policy`.

For clusters that something else keeps alive, such as KubeRay's RayService; `python -m serve.app` starts it by hand.
"""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from actors.rollout.vllm_engine import vllm_settings
from policies.vllm_environment import vllm_environment
from recipe import load_recipe
from serve.app import ONGOING, read_key
from serve.endpoint import PolicyEndpoint, key_digest


class PolicyArguments(BaseModel):
    """The `args` of the application."""

    model_config = ConfigDict(extra="forbid")

    run_folder: Path
    """Folder of a run that has ended, on storage that every node mounts."""
    overrides: list[str] = []
    """Such as `rollout.gpus=2`."""


def policy(arguments: PolicyArguments) -> Application:
    """The application of a run's policy; the key comes from the environment, as for `python -m serve.app`.

    Raises:
        RecipeError, ServeError: the run's recipe or the key cannot be used.
    """
    recipe = load_recipe([str(arguments.run_folder / "recipe.yaml"), *arguments.overrides])
    rollout = recipe.rollout
    environment = vllm_environment(rollout.threads, rollout.cpus, vllm_settings(recipe).memory_gib)
    actor = {"num_cpus": rollout.cpus, "num_gpus": rollout.gpus, "runtime_env": {"env_vars": environment}}
    deployment = serve.deployment(PolicyEndpoint, name="policy", max_ongoing_requests=ONGOING, ray_actor_options=actor)
    application: Application = deployment.bind(
        str(arguments.run_folder / "policy"), recipe.model_dump_json(), key_digest(read_key(recipe, os.environ))
    )
    return application
