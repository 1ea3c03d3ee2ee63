"""A training service around a stub learner and a stub engine, on loopback, in a thread of this process.

For measuring and testing what lies between Tinker's client and the models.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from actors.supervision.hosting import anywhere
from benchmarks.loopback import START_S
from benchmarks.stub_runs import StubRuns
from benchmarks.stub_workers import StubPool, StubTrainer
from policies.tiny import build_tiny_policy
from recipe import Recipe
from serve.application import make_application
from serve.assembly import database_of, furnish
from serve.database.connection import Database
from serve.operations.listening import free_port
from serve.operations.patience import Patience
from serve.tenants.keys import make_key
from serve.tenants.quotas import Quotas
from serve.training.service import TrainingService

os.environ["TINKER_TELEMETRY"] = "0"


@dataclass
class Running:
    """A service that answers at an address."""

    service: TrainingService
    url: str
    recipe: Recipe
    trainer: StubTrainer
    pool: StubPool
    runs: StubRuns
    http: httpx.Client
    """One for all calls: making one costs more than most of them."""
    loop: asyncio.AbstractEventLoop

    @property
    def database(self) -> Database:
        """Its database."""
        return self.service.database

    def key(self, tenant: str = "lab", scopes: str = "train,sample,read,metrics", quotas: Quotas | None = None) -> str:
        """A new key of a tenant."""
        return make_key(self.database, tenant, "test", scopes.split(","), quotas=quotas)

    def call(self, method: str, path: str, key: str | None = None, **more: Any) -> httpx.Response:
        """The answer to one call."""
        headers = {"X-API-Key": key} if key else {}
        headers |= more.pop("headers", {})
        return self.http.request(method, f"{self.url}{path}", headers=headers, **more)


def service_recipe(folder: Path, base: Path, **training: Any) -> Recipe:
    """A recipe with short waits; `training` sets keys of `serve.training`."""
    return Recipe(
        run={"name": "service", "root": str(folder)},
        policy={"model": str(base), "image_size": (32, 32), "lora": {"rank": 8}},
        serve={"port": free_port(), "jobs": {"poll_s": 0.1}, "training": {"gap_s": 1.0, "hold_s": 2.0, **training}},
    )


@contextmanager
def running(
    recipe: Recipe,
    trainer: StubTrainer | None = None,
    pool: StubPool | None = None,
    reader: Any = None,
    runs: StubRuns | None = None,
) -> Iterator[Running]:
    """Serve a recipe inside the block, and drain at its end."""
    trainer, pool = trainer or StubTrainer(), pool or StubPool()
    base = recipe.policy.model
    service = TrainingService(recipe, base, database_of(recipe, os.environ), trainer, pool, reader)
    runs = runs or StubRuns(recipe.run.folder / "stub_runs")
    furnish(service, recipe, runs, anywhere(1.0, 0.0))
    port = recipe.serve.port
    config = uvicorn.Config(
        make_application(service), port=port, log_level="error", lifespan="off", access_log=False, http=Patience
    )
    server = uvicorn.Server(config)
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        await service.open()
        await service.start()
        await server.serve()
        await service.drain()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{port}"
    until = time.monotonic() + START_S
    while thread.is_alive():
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/readyz", timeout=5.0).status_code == 200:
                break
        if time.monotonic() > until:
            raise TimeoutError(f"{url} was not ready within {START_S:g} s")
        time.sleep(0.02)
    try:
        with httpx.Client(timeout=60.0) as http:
            yield Running(service, url, recipe, trainer, pool, runs, http, loop)
    finally:
        server.should_exit = True
        thread.join(30.0)
        loop.close()


def tiny_base(folder: Path) -> Path:
    """A fresh tiny policy."""
    return build_tiny_policy(folder / "base", seed=3)


async def _serve_until_killed(recipe: Recipe) -> None:
    service = TrainingService(recipe, recipe.policy.model, database_of(recipe, os.environ), StubTrainer(), StubPool())
    furnish(
        service,
        recipe,
        StubRuns(recipe.run.folder / "stub_runs", dies=recipe.serve.jobs.stop_s < 1),
        anywhere(1.0, 0.0),
    )
    application = make_application(service)
    config = uvicorn.Config(
        application, port=recipe.serve.port, log_level="error", lifespan="off", access_log=False, http=Patience
    )
    await service.open()
    await service.start()
    await uvicorn.Server(config).serve()


if __name__ == "__main__":  # a server that can be killed: its recipe as JSON
    asyncio.run(_serve_until_killed(Recipe.model_validate_json(sys.argv[1])))
