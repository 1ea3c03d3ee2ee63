"""tinker-cookbook's own `rl.train.main`, with a driving environment, against the service with stub workers."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tinker
from tinker_cookbook.rl import train

from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from docs.examples.tinker_cookbook_driving import DrivingQuestions, config

pytestmark = pytest.mark.slow

SMALL = {"scenes": 1, "batch": 2, "group": 2}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    with running(service_recipe(tmp_path_factory.mktemp("service"), base)) as service:
        yield service


@pytest.mark.parametrize(
    "more",
    [
        {"loss_fn": "importance_sampling"},
        {"loss_fn": "ppo", "num_substeps": 2},
        {"loss_fn": "importance_sampling", "kl_penalty_coef": 0.1},
        {"loss_fn": "cispo", "compute_post_kl": True},
    ],
    ids=["importance sampling", "ppo in two substeps", "kl against the base", "cispo"],
)
def test_the_cookbooks_own_loop_runs(
    served: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    monkeypatch.setattr(train, "fetch_model_pricing", lambda *_, **__: None)  # it would ask a public price list
    monkeypatch.setenv("TINKER_API_KEY", served.key())
    base = served.service.base
    if "kl_penalty_coef" in more:
        more = more | {"kl_reference_config": train.KLReferenceConfig(base_model=base)}
    questions = DrivingQuestions(base=base, **SMALL)
    asyncio.run(train.main(config(served.url, base, str(tmp_path), dataset_builder=questions, max_steps=2, **more)))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {row["step"] for row in rows} >= {0, 1}
    rest = tinker.RestClient(base_url=served.url, api_key=served.key())
    runs = rest.list_training_runs().result().training_runs
    assert runs[0].last_checkpoint is not None
