"""What every algorithm keeps to, built in or a user's; see `policies.algorithms.algorithm.Algorithm`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from extension import ExtensionError
from policies.algorithms.algorithm import Algorithm, Rows, Scored
from policies.losses import GlobalCounts, LossResult, PolicyLossInput
from policies.settings import ALGORITHMS
from tests.algorithms import algorithm
from tests.ranks import alone

OWN = "docs.examples.algorithm:BestHalf"
NAMES = [*ALGORITHMS, OWN]
REWARDS = [1.0, None, 0.25, 0.0, 0.5]
LENGTHS = [3, 2, 4, 1, 3]
CAP = 8

every_algorithm = pytest.mark.parametrize("name", NAMES)


def group(rewards: Sequence[float | None], lengths: Sequence[int] = LENGTHS) -> list[Scored]:
    return [Scored(reward, length) for reward, length in zip(rewards, lengths, strict=True)]


def padded(rows: Sequence[Sequence[float]]) -> Tensor:
    return pad_sequence([torch.tensor(row) for row in rows], batch_first=True)


def learnt(method: Algorithm, rewards: Sequence[float | None], lengths: Sequence[int] = LENGTHS) -> tuple[Rows, Tensor]:
    """The rows of a group's responses that teach, and the advantages of their tokens."""
    credits = [own for own in method.credits(group(rewards, lengths)) if own is not None]
    mask = padded([[1.0] * len(own) for own in credits])
    generator = torch.Generator().manual_seed(0)
    one, other, third = (torch.randn(mask.shape, generator=generator) * mask for _ in range(3))
    rows = Rows(padded(credits), mask, one, other, third if method.has_critic else None)
    return rows, method.advantages(rows, method.kl_beta, alone).advantages_R_T * mask


def loss_of(method: Algorithm, rows: Rows, advantages: Tensor, logprobs: Tensor) -> LossResult:
    """The loss on the first update, the reference as far off as the rows say."""
    old = logprobs.detach()
    counts = GlobalCounts(len(rows.mask_R_T), int(rows.mask_R_T.sum()), CAP)
    reference = rows.reference_logprobs_R_T if method.reference == "loss" else None
    values = rows.values_R_T
    seen = PolicyLossInput(logprobs, old, old, reference, advantages, rows.mask_R_T, values, values, values)
    return method.loss(seen, counts)


@every_algorithm
def test_it_is_found_by_name_and_its_options_are_documented(name: str) -> None:
    method = algorithm(name)
    assert isinstance(method.settings, method.Settings)
    assert issubclass(method.Settings, BaseModel)
    for field, described in method.Settings.model_fields.items():
        assert described.description, f"{name}: {field} has no docstring"
        assert not described.is_required(), f"{name}: {field} has no default"
    assert method.Settings.model_config.get("extra") == "forbid"


@every_algorithm
def test_a_masked_response_gets_no_credit_and_changes_nothing_for_its_siblings_that_are_left(name: str) -> None:
    method = algorithm(name)
    with_masked = method.credits(group(REWARDS))
    assert [own is None for own in with_masked] == [reward is None for reward in REWARDS]
    assert [len(own) for own in with_masked if own] == [3, 4, 1, 3]
    known = [number for number, reward in enumerate(REWARDS) if reward is not None]
    without = method.credits(group([REWARDS[i] for i in known], [LENGTHS[i] for i in known]))
    assert without == [with_masked[i] for i in known]
    assert method.credits(group([None, None], [1, 2])) == [None, None]


@every_algorithm
def test_responses_in_another_order_have_their_advantages_in_that_order(name: str) -> None:
    method, order = algorithm(name, **({"kl_beta": 0.0} if name in ALGORITHMS else {})), [3, 0, 2, 1]
    rewards, lengths = [1.0, 0.25, 0.0, 0.5], [3, 4, 1, 3]
    rows, advantages = learnt(method, rewards, lengths)
    columns: dict[str, Any] = {field: own if own is None else own[order] for field, own in vars(rows).items()}
    moved = Rows(**columns)
    again = method.advantages(moved, 0.0, alone).advantages_R_T * moved.mask_R_T
    torch.testing.assert_close(again, advantages[order])
    credits = method.credits(group(rewards, lengths))
    shuffled = method.credits(group([rewards[i] for i in order], [lengths[i] for i in order]))
    for own, place in zip(shuffled, order, strict=True):
        assert own == pytest.approx(credits[place])


@pytest.mark.parametrize("name", [name for name in NAMES if algorithm(name).compares_group])
def test_equal_rewards_of_a_group_teach_nothing(name: str) -> None:
    method = algorithm(name, **({"kl_beta": 0.0} if name in ALGORITHMS else {}))
    rows, advantages = learnt(method, [0.3] * 5)
    assert not advantages.any()
    logprobs = (-rows.mask_R_T).requires_grad_()
    loss_of(method, rows, advantages, logprobs).loss.backward()
    assert logprobs.grad is not None
    assert not logprobs.grad.any()


@every_algorithm
def test_a_response_alone_is_measured_where_no_siblings_are_needed(name: str) -> None:
    """The declared need is true: only what compares a group gives up a response without siblings, or credits 0."""
    method = algorithm(name)
    (credits,) = method.credits(group([1.0], [2]))
    nothing = credits is None or not any(credits)
    assert nothing == method.compares_group


@every_algorithm
def test_the_loss_is_finite_and_raises_what_was_better_than_expected(name: str) -> None:
    method = algorithm(name)
    rows, advantages = learnt(method, REWARDS)
    assert advantages.any()
    logprobs = (-rows.mask_R_T).requires_grad_()
    result = loss_of(method, rows, advantages, logprobs)
    assert result.loss.shape == ()
    result.loss.backward()
    assert logprobs.grad is not None
    assert torch.isfinite(logprobs.grad).all()
    assert not logprobs.grad[rows.mask_R_T == 0].any()
    if method.reference != "loss":  # a KL term pulls besides
        assert (logprobs.grad * advantages <= 0).all()


@every_algorithm
def test_it_reads_what_it_declares_and_nothing_else_of_the_model(name: str) -> None:
    method, (rows, _) = algorithm(name), learnt(algorithm(name), REWARDS)
    in_reward = method.reference == "reward"
    needed = replace(rows, values_R_T=rows.values_R_T if method.has_critic else None)
    if not in_reward:
        needed = replace(needed, logprobs_R_T=None, reference_logprobs_R_T=None)
    method.advantages(needed, 0.1, alone)
    for field, declared in (("reference_logprobs_R_T", in_reward), ("values_R_T", method.has_critic)):
        if declared:
            lacking: dict[str, Any] = {field: None}
            with pytest.raises((AssertionError, TypeError)):
                method.advantages(replace(needed, **lacking), 0.1, alone)
    if not method.over_batch:
        assert torch.equal(method.advantages(rows, 0.1, alone).advantages_R_T, rows.credits_R_T)


@every_algorithm
def test_without_a_weight_no_reference_is_read(name: str) -> None:
    if name in ALGORITHMS:
        assert algorithm(name, kl_beta=0.0).reference == "none"
        assert algorithm(name, kl_beta=0.1).reference in ("loss", "reward")
    else:
        assert algorithm(name).reference == "none"


@pytest.mark.slow
def test_a_recipe_with_any_built_in_algorithm_is_checked_without_torch() -> None:
    names = [[f"algorithm.name={name}"] for name in ALGORITHMS]
    code = (
        "import sys; from recipe import load_recipe\n"
        f"for keys in {names!r}: load_recipe(['recipes/tiny.yaml', *keys])\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=600).returncode == 0


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("gropo", {}, "algorithm.name=gropo is unknown (did you mean grpo?, or module:Class of your own)"),
        ("grpo", {"clip_hihg": 0.3}, "unknown key algorithm.options.clip_hihg (did you mean clip_high?)"),
        ("grpo", {"trace": 0.9}, "unknown key algorithm.options.trace"),
        ("docs.examples.algorithm:BestHalves", {}, "has no class 'BestHalves' (did you mean BestHalf?)"),
        ("docs.examples.algorithm:BestHalfSettings", {}, "lacks temperature, reference, loss"),
        (OWN, {"strength": "much"}, "algorithm.options.strength: Input should be a valid number"),
    ],
)
def test_what_no_class_answers_to_is_one_sentence(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ExtensionError) as caught:
        algorithm(name, **options)
    assert said in str(caught.value)
