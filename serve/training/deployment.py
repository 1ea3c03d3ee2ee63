"""The training service as a Ray Serve deployment: the application of `python -m serve.app`, on a cluster.

One replica: it applies every model's requests in order. Ray Serve starts another when it dies; learners and engines go
with it, and what was asked of it is in the database.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import FastAPI
from ray import serve

from recipe import Recipe
from serve.operations.logs import write_logs
from serve.training.application import make_application
from serve.training.assembly import assembled

ONGOING = 4096
"""Calls at once: calls for results are held for a while."""


@serve.ingress()
class TrainingDeployment:
    """The replica."""

    def __init__(self, recipe_json: str) -> None:
        """Launch learners and engines; the event loop starts the rest with the first health check."""
        write_logs()
        self.service = assembled(Recipe.model_validate_json(recipe_json))
        self._starting: asyncio.Task[Any] | None = None

    def __serve_build_asgi_app__(self) -> FastAPI:  # noqa: PLW3201  # Ray Serve's name
        """The application."""
        return make_application(self.service)

    async def check_health(self) -> None:
        """Ray Serve asks this from time to time, and replaces a replica that raises."""
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        if self._starting.done():
            self._starting.result()

    async def _start(self) -> None:
        await self.service.open()
        await self.service.start()

    async def __del__(self) -> None:
        """Ray Serve calls this when it stops the replica in good order."""
        if self.service.health.ready:
            await self.service.drain()


def training_application(recipe: Recipe, environment: dict[str, str]) -> Any:
    """What `serve.run` takes.

    Args:
        recipe: of the service.
        environment: variables that the replica needs, such as the database's address.
    """
    options = {"num_cpus": 0, "runtime_env": {"env_vars": environment}}
    deployment = serve.deployment(
        TrainingDeployment,
        name="training",
        num_replicas=1,
        max_ongoing_requests=ONGOING,
        health_check_period_s=2,
        health_check_timeout_s=60,
        graceful_shutdown_timeout_s=60,
        ray_actor_options=options,
    )
    return deployment.bind(recipe.model_dump_json())
