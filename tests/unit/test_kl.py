"""The KL estimators and the controller of the KL's weight."""

import pytest
import torch

from policies.kl import adapted_weight, kl_estimate


def test_k3_is_never_negative_and_zero_where_the_policies_agree() -> None:
    same = torch.randn(3, 4)
    assert (kl_estimate(torch.randn(3, 4), torch.randn(3, 4), "k3", 20.0) >= 0).all()
    assert (kl_estimate(same, same, "k3", 20.0) == 0).all()


def test_k1_and_k3_estimate_the_kl_without_bias_and_k2_nearly() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.log_softmax(torch.randn(5), 0), torch.log_softmax(torch.randn(5) * 0.2, 0)
    ours = 0.9 * theirs.exp() + 0.1 * ours.exp()  # policies that are near each other
    exact = float((ours * (ours.log() - theirs)).sum())
    for estimator, tolerance in (("k1", 1e-6), ("k3", 1e-6), ("k2", 0.2 * exact)):
        estimates = kl_estimate(ours.log(), theirs, estimator, 20.0)  # type: ignore[arg-type]
        assert float((ours * estimates).sum()) == pytest.approx(exact, abs=tolerance)


def test_far_policies_are_clamped() -> None:
    far = torch.tensor([[-100.0]])
    assert float(kl_estimate(far, torch.zeros(1, 1), "k3", 20.0)) == 10.0
    assert float(kl_estimate(far, torch.zeros(1, 1), "k1", 20.0)) == -20.0


def test_the_weight_rises_while_the_kl_is_above_its_target_by_at_most_a_fifth_per_horizon() -> None:
    first = adapted_weight(0.1, kl=50.0, responses=100, target=2.0, horizon=100)
    assert first == pytest.approx(0.1 * 1.2)
    assert adapted_weight(first, kl=2.0, responses=100, target=2.0, horizon=100) == first
    assert adapted_weight(first, kl=1.9, responses=50, target=2.0, horizon=100) == pytest.approx(
        first * (1 - 0.05 * 0.5)
    )
