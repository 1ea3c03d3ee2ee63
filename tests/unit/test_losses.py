"""The losses against their papers' formulas, token by token, and their independence of how a batch is cut."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.losses import (
    GlobalCounts,
    PolicyLossInput,
    aggregate,
    importance_weight,
    supervised_loss,
    value_loss,
)
from policies.settings import ALGORITHMS
from tests.algorithms import algorithm

CAP = 7


def make_input(responses: int = 6, width: int = 5, seed: int = 0) -> PolicyLossInput:
    generator = torch.Generator().manual_seed(seed)

    def logprobs() -> Tensor:
        return -torch.rand(responses, width, generator=generator, dtype=torch.float64) * 2

    lengths = torch.randint(1, width + 1, (responses,), generator=generator)
    mask = (torch.arange(width)[None] < lengths[:, None]).double()
    return PolicyLossInput(
        logprobs().requires_grad_(),
        logprobs(),
        logprobs(),
        logprobs(),
        torch.randn(responses, 1, generator=generator, dtype=torch.float64),
        mask,
        logprobs(),
        logprobs(),
        logprobs(),
    )


def rows_of(batch: PolicyLossInput, rows: slice) -> PolicyLossInput:
    tensors: dict[str, Any] = {field.name: getattr(batch, field.name) for field in fields(batch)}
    return PolicyLossInput(**{name: tensor[rows] for name, tensor in tensors.items()})


def counts(batch: PolicyLossInput) -> GlobalCounts:
    return GlobalCounts(len(batch.mask_R_T), int(batch.mask_R_T.sum()), CAP)


def by_hand(batch: PolicyLossInput, name: str, settings: Any) -> float:
    """The objective of an algorithm without a critic, token by token."""
    assert batch.reference_logprobs_R_T is not None
    responses = []
    for r in range(len(batch.mask_R_T)):
        length = int(batch.mask_R_T[r].sum())
        lps, olds, rolls, refs = (
            row[r, :length].tolist()
            for row in (
                batch.logprobs_R_T,
                batch.old_logprobs_R_T,
                batch.rollout_logprobs_R_T,
                batch.reference_logprobs_R_T,
            )
        )
        sequence = math.exp(sum(lp - old for lp, old in zip(lps, olds, strict=True)) / length)
        tokens = []
        for lp, old, roll, ref in zip(lps, olds, rolls, refs, strict=True):
            a, ratio = (
                float(batch.advantages_R_T[r, 0]),
                sequence if name == "gspo" else math.exp(lp - old),
            )
            clipped = min(max(ratio, 1 - settings.clip_low), 1 + settings.clip_high)
            if name == "cispo":
                policy = -clipped * a * lp
            else:
                policy = -min(a * ratio, a * clipped)
                if settings.dual_clip is not None and a < 0:
                    policy = min(policy, -a * settings.dual_clip)
            weight = math.exp(old - roll)
            if settings.importance == "none":
                weight = 1.0
            elif settings.importance == "truncate":
                weight = min(weight, settings.importance_cap)
            elif settings.importance == "bound":
                weight = min(max(weight, settings.importance_floor), settings.importance_cap)
            elif not settings.importance_floor <= weight <= settings.importance_cap:
                weight = 0.0
            d = ref - lp
            kl = {"k1": -d, "k2": d * d / 2, "k3": math.exp(d) - d - 1}[settings.kl_estimator]
            tokens.append(policy * weight + settings.kl_beta * kl)
        responses.append(tokens)
    if settings.aggregation == "seq-mean":
        return sum(sum(tokens) / len(tokens) for tokens in responses) / len(responses)
    total = sum(sum(tokens) for tokens in responses)
    divisors = {
        "token-mean": sum(map(len, responses)),
        "token-sum": len(responses),
        "token-sum-norm": len(responses) * CAP,
    }
    return total / divisors[settings.aggregation]


@pytest.mark.parametrize("aggregation", ["seq-mean", "token-mean", "token-sum", "token-sum-norm"])
@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"clip_high": 0.28},
        {"dual_clip": 1.1},
        {"name": "gspo"},
        {"name": "cispo", "clip_low": 0.4, "clip_high": 0.3},
        {"importance": "none"},
        {"importance": "mask", "importance_floor": 0.8, "importance_cap": 1.5},
        {"importance": "bound", "importance_floor": 0.8, "importance_cap": 1.5},
        {"kl_estimator": "k1"},
        {"kl_estimator": "k2"},
    ],
    ids=str,
)
def test_the_loss_is_the_formula_written_out(aggregation: str, keys: dict[str, Any]) -> None:
    method, batch = algorithm(**{"kl_beta": 0.3, "aggregation": aggregation, **keys}), make_input()
    expected = by_hand(batch, keys.get("name", "grpo"), method.settings)
    assert method.loss(batch, counts(batch)).loss.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "cispo"])
def test_the_gradient_is_that_of_the_formula(name: str) -> None:
    """By finite differences; without weights, which the gradient does not see. CISPO's has a test of its own."""
    method, batch = algorithm(name, importance="none", log_ratio_clamp=50.0), make_input()
    if method.reference != "loss":
        batch = replace(batch, reference_logprobs_R_T=None)
    assert torch.autograd.gradcheck(
        lambda lp: method.loss(replace(batch, logprobs_R_T=lp), counts(batch)).loss, batch.logprobs_R_T
    )


def test_a_clipped_weight_scales_the_gradient_of_the_log_probability_and_has_none_itself() -> None:
    batch = replace(make_input(), reference_logprobs_R_T=None)
    method = algorithm(name="cispo", clip_low=0.3, clip_high=0.2, importance="none")
    method.loss(batch, counts(batch)).loss.backward()
    weight = torch.exp(batch.logprobs_R_T - batch.old_logprobs_R_T).clamp(0.7, 1.2).detach()
    expected = -batch.advantages_R_T * weight * batch.mask_R_T / batch.mask_R_T.sum()
    torch.testing.assert_close(batch.logprobs_R_T.grad, expected)


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("cuts", [[6], [1] * 6, [2, 4], [5, 1]], ids=str)
def test_the_gradient_does_not_depend_on_the_micro_batches(name: Any, cuts: list[int]) -> None:
    method = algorithm(name)
    whole, cut = make_input(), make_input()
    method.loss(whole, counts(whole)).loss.backward()
    start = 0
    for size in cuts:
        method.loss(rows_of(cut, slice(start, start + size)), counts(cut)).loss.backward()
        start += size
    torch.testing.assert_close(cut.logprobs_R_T.grad, whole.logprobs_R_T.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ALGORITHMS)
def test_what_stands_outside_the_mask_cannot_leak_in(name: Any) -> None:
    batch, method = make_input(), algorithm(name)
    poisoned = torch.where(batch.mask_R_T > 0, batch.logprobs_R_T, -torch.inf).detach().requires_grad_()
    clean = method.loss(batch, counts(batch))
    dirty = method.loss(replace(batch, logprobs_R_T=poisoned), counts(batch))
    dirty.loss.backward()
    assert dirty.loss.item() == pytest.approx(clean.loss.item())
    assert dirty.token_sums == pytest.approx(clean.token_sums)
    assert poisoned.grad is not None
    assert torch.isfinite(poisoned.grad).all()


def test_on_the_first_pass_nothing_is_clipped_and_the_gradient_is_the_policy_gradient() -> None:
    batch, method = make_input(), algorithm(kl_beta=0.0, importance="none")
    now = batch.logprobs_R_T.detach()
    on_policy = replace(batch, old_logprobs_R_T=now, rollout_logprobs_R_T=now, reference_logprobs_R_T=None)
    result = method.loss(on_policy, counts(batch))
    result.loss.backward()
    lengths = batch.mask_R_T.sum(1, keepdim=True)
    expected = -batch.advantages_R_T * batch.mask_R_T / lengths / len(lengths)
    torch.testing.assert_close(batch.logprobs_R_T.grad, expected)
    assert result.token_sums["clip_share"] == 0.0
    assert result.maxima["rollout_gap_max"] == 0.0


def test_the_gap_between_engine_and_learner_is_measured_inside_the_mask() -> None:
    batch = make_input()
    shifted = batch.old_logprobs_R_T + 0.25 + (1 - batch.mask_R_T) * 9
    result = algorithm().loss(replace(batch, rollout_logprobs_R_T=shifted), counts(batch))
    assert result.maxima["rollout_gap_max"] == pytest.approx(0.25)
    assert result.token_sums["rollout_gap_mean"] == pytest.approx(0.25 * float(batch.mask_R_T.sum()))


def test_cut_and_masked_weights_are_counted() -> None:
    batch = make_input()
    mismatch = torch.exp(batch.old_logprobs_R_T - batch.rollout_logprobs_R_T)
    for importance, hit in (
        ("none", mismatch < 0),
        ("truncate", mismatch > 1.5),
        ("bound", (mismatch > 1.5) | (mismatch < 0.5)),
        ("mask", (mismatch > 1.5) | (mismatch < 0.5)),
    ):
        method = algorithm(importance=importance, importance_cap=1.5)
        share = method.loss(batch, counts(batch)).token_sums["truncated_share"]
        assert share == float((hit * batch.mask_R_T).sum())
    weight, _ = importance_weight(batch, algorithm(importance="mask", importance_cap=1.5).settings)
    assert ((weight == 0) == ((mismatch > 1.5) | (mismatch < 0.5))).all()


def test_a_response_of_nothing_but_masked_tokens_does_not_count() -> None:
    loss, mask = torch.tensor([[2.0, 4.0], [9.0, 9.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert float(aggregate(loss, mask, "seq-mean", GlobalCounts(responses=1, tokens=2))) == 3.0


@pytest.mark.parametrize("name", ALGORITHMS)
def test_a_batch_masked_whole_has_no_loss_and_no_gradient(name: Any) -> None:
    batch, nothing = make_input(), GlobalCounts(responses=0, tokens=0, response_cap=CAP)
    masked = replace(batch, mask_R_T=torch.zeros_like(batch.mask_R_T))
    result = algorithm(name).loss(masked, nothing)
    result.loss.backward()
    assert result.loss.item() == 0.0
    assert batch.logprobs_R_T.grad is not None
    assert not batch.logprobs_R_T.grad.any()
    assert not any([*result.token_sums.values(), *result.maxima.values()])
    values = batch.old_logprobs_R_T
    assert value_loss(values, values, values + 1, masked.mask_R_T, 0.2, nothing).loss.item() == 0.0
    assert supervised_loss(values, masked.mask_R_T, nothing).loss.item() == 0.0


def test_the_supervised_loss_is_the_mean_over_the_answers_tokens() -> None:
    logprobs, mask = torch.tensor([[-1.0, -3.0], [-2.0, -9.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert float(supervised_loss(logprobs, mask, GlobalCounts(2, 3)).loss) == pytest.approx(2.0)


def test_the_value_loss_takes_the_larger_error_of_the_value_and_the_clipped_value() -> None:
    values = torch.tensor([[1.0, 0.0, 5.0]], requires_grad=True)
    old, returns, mask = (
        torch.tensor([[0.0, 0.0, 0.0]]),
        torch.tensor([[1.0, 1.0, 0.0]]),
        torch.tensor([[1.0, 1.0, 0.0]]),
    )
    result = value_loss(values, old, returns, mask, clip=0.2, counts=GlobalCounts(1, 2))
    # the first value hit its return, but clipped to 0.2 it misses by 0.8; the third is outside the mask
    assert result.loss.item() == pytest.approx((0.5 * 0.8**2 + 0.5 * 1.0) / 2)
    assert result.token_sums == {"value_error": 1.0, "value_clip_share": 1.0}
    result.loss.backward()
    assert values.grad is not None
    torch.testing.assert_close(values.grad, torch.tensor([[0.0, -0.5, 0.0]]))


@pytest.mark.parametrize("keys", [{"clip_low": -0.1}, {"clip_high": -0.1}, {"log_ratio_clamp": 0}, {"dual_clip": 1}])
def test_bounds_that_would_turn_the_loss_round_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(keys))):
        algorithm(**keys)


@pytest.mark.parametrize("importance", ["mask", "bound"])
def test_weights_between_a_floor_above_the_cap_are_refused(importance: Any) -> None:
    with pytest.raises(ValueError, match=r"importance_floor=0\.5 and importance_cap=0\.4"):
        algorithm(importance=importance, importance_cap=0.4)
    assert algorithm(importance="truncate", importance_cap=0.4).settings.importance_cap == 0.4
