"""What a recipe must be for the training service: each refusal names the key and what to set."""

from __future__ import annotations

import re

import pytest

from extension import ROOT
from recipe import RecipeError, load_recipe
from serve.assembly import check_service_recipe

SERVICE = str(ROOT / "recipes/service.yaml")


def test_the_services_own_recipe_is_one() -> None:
    check_service_recipe(load_recipe([SERVICE]))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("policy.lora=null", "policy.lora must be set"),
        ("policy.lora={rank: 4, targets: [vision]}", "with attention and mlp alone"),
        ("policy.lora={rank: 4, four_bit: true}", "policy.lora.four_bit rounds the base"),
        ("learner.zero_stage=2", "learner.zero_stage=2 has room for one adapter alone: set it to 0"),
        ("rollout.backend=transformers", "rollout.backend=transformers loads no adapters: set it to vllm"),
        ("rollout.on_learners=1", "rollout.on_learners lets engines sleep"),
        ("rollout.max_engines=9", "rollout.max_engines lets engines join a run"),
        ("policy.views=stitched", "policy.views=stitched: clients say themselves"),
    ],
)
def test_what_cannot_serve_several_adapters_is_refused(given: str, said: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(said)):
        check_service_recipe(load_recipe([SERVICE, "policy.image_size=[32, 32]", given]))
