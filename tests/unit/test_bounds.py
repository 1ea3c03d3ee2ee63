"""What cannot fit is refused before anything is traced, with what to change."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.bounds import impossible
from cluster.errors import PlanError
from cluster.facts import load_facts
from cluster.forecast import Assumptions, Forecast
from cluster.plan import resource_plan
from cluster.planned import outline
from recipe import load_recipe

ROOT = Path(__file__).parents[2]
DRIVERX = str(ROOT / "recipes/driverx_grpo.yaml")


def found(*overrides: str) -> list[str]:
    return impossible(Forecast(load_recipe([DRIVERX, *overrides]), Assumptions(load_facts(), {})))


def test_the_recipe_as_it_is_holds() -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("learner.zero_stage=0", "learner.ranks=1"), "a learner rank holds 140 GiB of weights"),
        (
            ("learner.micro_batch_tokens=400000", "learner.micro_batch_groups=16"),
            "a micro-batch of 400,000 positions keeps 98 GiB for its backward pass at least",
        ),
        (
            ("learner.micro_batch_tokens=3000",),
            "learner.micro_batch_tokens=3000 holds no prompt of 3,456 image tokens with a response of "
            "rollout.max_tokens=4096: raise it to 7752 or more",
        ),
        (
            ("rollout.max_model_len=3400", "rollout.max_tokens=512"),
            "the 6 images of a prompt are 3,456 tokens, and rollout.max_model_len=3400: raise it",
        ),
        (
            ("reward.judge.tensor_parallel=1", "reward.judge.gpus=1"),
            "reward.judge.tensor_parallel=1 puts 135 GiB of weights on a GPU; A100-80GB has 80: raise it",
        ),
    ],
)
def test_what_no_run_could_hold_is_named_with_what_to_change(overrides: tuple[str, ...], sentence: str) -> None:
    assert [one for one in found(*overrides) if one.startswith(sentence)]
    recipe = load_recipe([DRIVERX, *overrides])
    with pytest.raises(PlanError, match=sentence.split("=")[0][:30]):
        outline(recipe, resource_plan(recipe))
