"""The training service on Ray Serve with PostgreSQL: the same application, and a replica that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
import tinker
from ray import serve

from benchmarks.stub_service import free_port
from cluster.session import session
from docs.examples.tinker_driving import base_of
from docs.examples.tinker_supervised import train
from recipe import Recipe, load_recipe
from serve.database.connection import Database
from serve.tenants.keys import make_key
from serve.training.deployment import training_application
from tests.integration.postgres import postgres

pytestmark = [pytest.mark.slow, pytest.mark.fault]
ROOT = Path(__file__).parents[2]


def wait(url: str) -> None:
    until = time.monotonic() + 600.0
    while time.monotonic() < until:
        try:
            if httpx.get(f"{url}/readyz", timeout=5.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise AssertionError("the deployment did not become ready")


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[tuple[str, Database]]:
    port = free_port()
    recipe: Recipe = load_recipe([str(ROOT / "recipes/service.yaml"), f"run.root={tmp_path}", f"serve.port={port}"])
    with postgres() as database, session(recipe):
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
        variables = {"AUTODRIVERL_DATABASE": database}
        serve.run(training_application(recipe, variables), name="training", route_prefix="/", blocking=False)
        wait(f"http://127.0.0.1:{port}")
        yield f"http://127.0.0.1:{port}", Database(database)
        serve.shutdown()


def test_a_replica_that_is_killed_is_replaced_and_the_loop_goes_on(deployed: tuple[str, Database]) -> None:
    url, database = deployed
    key = make_key(database, "lab", "test")
    service, base = tinker.ServiceClient(base_url=url, api_key=key), base_of(url, key)
    losses, path = train(service, base, 2, batch=4, scenes=2, rank=8, lr=1e-3)
    (replica,) = [one for one in psutil.process_iter() if "ray::ServeReplica:training" in " ".join(one.cmdline() or [])]
    replica.kill()
    wait(url)
    again = service.create_training_client_from_state(path).result()
    assert again.get_info().lora_rank == 8
    assert losses[1] < losses[0]
