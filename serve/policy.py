"""A run's policy as an application of Ray Serve: for `python -m serve.app`, and for Serve's own config files.

Such a file, on a cluster that something else keeps alive (KubeRay's RayService), names it so:
`import_path: serve.policy:policy`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from ray import serve
from ray.serve import Application

from actors.rollout.vllm_engine import vllm_settings
from policies.vllm_environment import vllm_environment
from recipe import Recipe, load_recipe
from serve.endpoint import PolicyEndpoint, key_digest
from serve.errors import ServeError

SHORTEST_KEY = 16
ONGOING = 1024
"""Requests Ray Serve lets through; the endpoint refuses beyond `serve.max_concurrent` itself, with an error in JSON."""


class PolicyArguments(BaseModel):
    """The `args` of the application."""

    model_config = ConfigDict(extra="forbid")

    run_folder: Path
    """Folder of a run that has ended, on storage that every node mounts."""
    overrides: list[str] = []
    """Such as `rollout.gpus=2`."""


def policy(arguments: PolicyArguments) -> Application:
    """The application of a run's policy; the key comes from the environment.

    Raises:
        RecipeError, ServeError: the run's recipe or the key cannot be used.
    """
    recipe = load_recipe([str(arguments.run_folder / "recipe.yaml"), *arguments.overrides])
    return application(arguments.run_folder / "policy", recipe, read_key(recipe, os.environ))


def application(folder: Path, recipe: Recipe, key: str) -> Application:
    """The application of the policy in a folder, which answers requests with this key."""
    rollout = recipe.rollout
    environment = vllm_environment(rollout.threads, rollout.cpus, vllm_settings(recipe).memory_gib)
    actor = {"num_cpus": rollout.cpus, "num_gpus": rollout.gpus, "runtime_env": {"env_vars": environment}}
    deployment = serve.deployment(PolicyEndpoint, name="policy", max_ongoing_requests=ONGOING, ray_actor_options=actor)
    bound: Application = deployment.bind(str(folder), recipe.model_dump_json(), key_digest(key))
    return bound


def read_key(recipe: Recipe, environment: Mapping[str, str]) -> str:
    """The key that requests must carry.

    Raises:
        ServeError: the variable is unset, or the key is short enough to be guessed.
    """
    name = recipe.serve.key_variable
    key = environment.get(name, "")
    if len(key) < SHORTEST_KEY:
        raise ServeError(
            f"environment variable {name} must hold the endpoint's key, {SHORTEST_KEY} characters or more: "
            f"export {name}=$(python -c 'import secrets; print(secrets.token_urlsafe(32))')"
        )
    return key
