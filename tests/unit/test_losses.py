"""The GRPO loss against the paper's formula written out, and its independence of how a batch is cut."""

import math

import pytest
import torch

from policies.losses import GlobalCounts, PolicyLossInput, aggregate, grpo_loss, kl_k3, supervised_loss
from policies.settings import AlgorithmSettings


def make_input(responses: int = 6, width: int = 5, seed: int = 0) -> PolicyLossInput:
    generator = torch.Generator().manual_seed(seed)

    def logprobs() -> torch.Tensor:
        return -torch.rand(responses, width, generator=generator, dtype=torch.float64) * 2

    lengths = torch.randint(1, width + 1, (responses,), generator=generator)
    mask = (torch.arange(width)[None] < lengths[:, None]).double()
    return PolicyLossInput(
        logprobs().requires_grad_(),
        logprobs(),
        logprobs(),
        logprobs(),
        torch.randn(responses, generator=generator, dtype=torch.float64),
        mask,
    )


def counts(batch: PolicyLossInput) -> GlobalCounts:
    return GlobalCounts(responses=len(batch.mask_R_T), tokens=int(batch.mask_R_T.sum()))


def by_hand(batch: PolicyLossInput, settings: AlgorithmSettings) -> float:
    """The objective token by token, as the paper states it."""
    responses = []
    assert batch.reference_logprobs_R_T is not None
    for r in range(len(batch.mask_R_T)):
        tokens = []
        for t in range(int(batch.mask_R_T[r].sum())):
            lp, old, roll, ref = (
                float(x[r, t])
                for x in (
                    batch.logprobs_R_T,
                    batch.old_logprobs_R_T,
                    batch.rollout_logprobs_R_T,
                    batch.reference_logprobs_R_T,
                )
            )
            advantage, ratio = float(batch.advantages_R[r]), math.exp(lp - old)
            clipped = min(max(ratio, 1 - settings.clip_low), 1 + settings.clip_high)
            weight = 1.0 if settings.importance_cap is None else min(math.exp(old - roll), settings.importance_cap)
            policy = -min(advantage * ratio, advantage * clipped) * weight
            tokens.append(policy + settings.kl_beta * (math.exp(ref - lp) - (ref - lp) - 1))
        responses.append(tokens)
    if settings.aggregation == "seq-mean":
        return sum(sum(tokens) / len(tokens) for tokens in responses) / len(responses)
    return sum(sum(tokens) for tokens in responses) / sum(len(tokens) for tokens in responses)


@pytest.mark.parametrize("aggregation", ["seq-mean", "token-mean"])
@pytest.mark.parametrize("importance_cap", [None, 2.0])
def test_the_loss_is_the_papers_formula(aggregation: str, importance_cap: float | None) -> None:
    settings = AlgorithmSettings(aggregation=aggregation, importance_cap=importance_cap, kl_beta=0.3, clip_high=0.28)
    batch = make_input()
    assert grpo_loss(batch, settings, counts(batch)).loss.item() == pytest.approx(by_hand(batch, settings), rel=1e-9)


@pytest.mark.parametrize("aggregation", ["seq-mean", "token-mean"])
@pytest.mark.parametrize("cuts", [[6], [1] * 6, [2, 4], [5, 1]])
def test_the_gradient_does_not_depend_on_the_micro_batches(aggregation: str, cuts: list[int]) -> None:
    settings = AlgorithmSettings(aggregation=aggregation)
    whole = make_input()
    grpo_loss(whole, settings, counts(whole)).loss.backward()
    cut = make_input()
    start = 0
    for size in cuts:
        rows = slice(start, start + size)
        part = PolicyLossInput(
            cut.logprobs_R_T[rows],
            cut.old_logprobs_R_T[rows],
            cut.rollout_logprobs_R_T[rows],
            cut.reference_logprobs_R_T[rows] if cut.reference_logprobs_R_T is not None else None,
            cut.advantages_R[rows],
            cut.mask_R_T[rows],
        )
        grpo_loss(part, settings, counts(cut)).loss.backward()
        start += size
    torch.testing.assert_close(cut.logprobs_R_T.grad, whole.logprobs_R_T.grad, rtol=1e-12, atol=1e-12)


def test_what_stands_outside_the_mask_cannot_leak_in() -> None:
    batch = make_input()
    poisoned = torch.where(batch.mask_R_T > 0, batch.logprobs_R_T, -torch.inf).detach().requires_grad_()
    settings = AlgorithmSettings()
    clean = grpo_loss(batch, settings, counts(batch)).loss
    dirty = grpo_loss(
        PolicyLossInput(
            poisoned,
            batch.old_logprobs_R_T,
            batch.rollout_logprobs_R_T,
            batch.reference_logprobs_R_T,
            batch.advantages_R,
            batch.mask_R_T,
        ),
        settings,
        counts(batch),
    ).loss
    dirty.backward()
    assert float(dirty) == pytest.approx(float(clean))
    assert poisoned.grad is not None
    assert torch.isfinite(poisoned.grad).all()


def test_on_the_first_pass_nothing_is_clipped_and_the_gradient_is_the_policy_gradient() -> None:
    batch = make_input()
    settings = AlgorithmSettings(kl_beta=0.0, importance_cap=None)
    on_policy = PolicyLossInput(
        batch.logprobs_R_T,
        batch.logprobs_R_T.detach(),
        batch.logprobs_R_T.detach(),
        None,
        batch.advantages_R,
        batch.mask_R_T,
    )
    result = grpo_loss(on_policy, settings, counts(batch))
    result.loss.backward()
    lengths = batch.mask_R_T.sum(1, keepdim=True)
    expected = -batch.advantages_R[:, None] * batch.mask_R_T / lengths / len(lengths)
    torch.testing.assert_close(batch.logprobs_R_T.grad, expected)
    assert result.token_sums["clip_share"] == 0.0
    assert result.maxima["logprob_gap_max"] == 0.0


def test_the_gap_between_engine_and_learner_is_measured_inside_the_mask() -> None:
    batch = make_input()
    shifted = batch.old_logprobs_R_T + 0.25 + (1 - batch.mask_R_T) * 9
    result = grpo_loss(
        PolicyLossInput(batch.logprobs_R_T, batch.old_logprobs_R_T, shifted, None, batch.advantages_R, batch.mask_R_T),
        AlgorithmSettings(),
        counts(batch),
    )
    assert result.maxima["logprob_gap_max"] == pytest.approx(0.25)
    assert result.token_sums["logprob_gap_mean"] == pytest.approx(0.25 * float(batch.mask_R_T.sum()))


def test_k3_is_never_negative_and_zero_where_the_policies_agree() -> None:
    same = torch.randn(3, 4)
    assert (kl_k3(torch.randn(3, 4), torch.randn(3, 4), 20.0) >= 0).all()
    assert (kl_k3(same, same, 20.0) == 0).all()


def test_a_response_without_tokens_counts_in_no_mean() -> None:
    loss, mask = torch.tensor([[2.0, 4.0], [9.0, 9.0]]), torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert float(aggregate(loss, mask, "seq-mean", GlobalCounts(responses=1, tokens=2))) == 3.0


def test_the_supervised_loss_is_cross_entropy_per_token() -> None:
    logprobs, mask = torch.tensor([[-1.0, -3.0], [-2.0, -50.0]]), torch.tensor([[1.0, 1.0], [1.0, 0.0]])
    assert float(supervised_loss(logprobs, mask, GlobalCounts(2, 3)).loss) == pytest.approx(2.0)
