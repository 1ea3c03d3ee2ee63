"""Our policy loss against TRL's own code, on the same tensors: loss and gradient to 1e-5 in float32."""

from __future__ import annotations

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.losses import GlobalCounts, PolicyLossInput
from tests.algorithms import algorithm

R, T, CAP = 8, 12, 16


@pytest.fixture
def batch() -> PolicyLossInput:
    generator = torch.Generator().manual_seed(3)

    def near(logprobs: Tensor, scale: float) -> Tensor:
        return logprobs + scale * torch.randn(R, T, generator=generator)

    logprobs = -torch.rand(R, T, generator=generator) * 3
    lengths = torch.randint(1, T + 1, (R,), generator=generator)
    mask = (torch.arange(T)[None] < lengths[:, None]).float()
    old = near(logprobs, 0.3)
    return PolicyLossInput(
        logprobs.requires_grad_(),
        old.detach(),
        near(old, 0.4).detach(),
        near(logprobs, 0.5).detach(),
        torch.randn(R, 1, generator=generator),
        mask,
    )


def trl_loss(
    batch: PolicyLossInput, *, loss_type: str, level: str, epsilon: tuple[float, float], **keys: Any
) -> Tensor:
    """What TRL computes in one process, without accumulation; only what surrounds the loss is replaced."""
    from trl.trainer.grpo_trainer import GRPOTrainer  # takes seconds to import: not while tests are collected

    mismatch = torch.exp(batch.old_logprobs_R_T - batch.rollout_logprobs_R_T)
    trainer: Any = SimpleNamespace(
        loss_type=loss_type,
        importance_sampling_level=level,
        epsilon_low=epsilon[0],
        epsilon_high=epsilon[1],
        beta=keys.get("beta", 0.0),
        args=SimpleNamespace(delta=keys.get("delta"), use_bias_correction_kl=False, steps_per_generation=1),
        use_vllm="cap" in keys,
        vllm_importance_sampling_correction=True,
        max_completion_length=CAP,
        current_gradient_accumulation_steps=1,
        model=SimpleNamespace(training=True),
        accelerator=SimpleNamespace(
            num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
        ),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        _entropy_bonus_enabled=False,
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (batch.logprobs_R_T, torch.zeros(R, T), None),
    )
    ids = torch.zeros(R, T, dtype=torch.long)
    inputs = {
        "prompt_ids": ids[:, :1],
        "prompt_mask": ids[:, :1] + 1,
        "completion_ids": ids,
        "completion_mask": batch.mask_R_T,
        "advantages": batch.advantages_R_T[:, 0],
        "old_per_token_logps": batch.old_logprobs_R_T,
        "ref_per_token_logps": batch.reference_logprobs_R_T,
        "importance_sampling_ratio": mismatch.clamp(max=keys.get("cap", torch.inf)),
        "num_items_in_batch": batch.mask_R_T.sum(),
    }
    return GRPOTrainer._compute_loss(trainer, trainer.model, inputs)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"aggregation": "seq-mean"}, {"loss_type": "grpo"}),
        ({"aggregation": "seq-mean", "kl_beta": 0.04}, {"loss_type": "grpo", "beta": 0.04}),
        ({"aggregation": "seq-mean", "importance": "truncate"}, {"loss_type": "grpo", "cap": 2.0}),
        ({"aggregation": "token-mean", "clip_high": 0.28}, {"loss_type": "dapo", "epsilon": (0.2, 0.28)}),
        ({"name": "dr_grpo"}, {"loss_type": "dr_grpo"}),
        ({"name": "gspo"}, {"loss_type": "grpo", "level": "sequence", "epsilon": (3e-4, 4e-4)}),
        # TRL caps the weight at an absolute value, and only above
        ({"name": "cispo", "clip_low": 1.0, "clip_high": 0.2}, {"loss_type": "cispo", "epsilon": (0.2, 1.2)}),
    ],
    ids=str,
)
@pytest.mark.slow
def test_loss_and_gradient_are_trls(batch: PolicyLossInput, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    method = algorithm(**{"importance": "none", "kl_beta": 0.0, **ours})
    theirs = {"level": "token", "epsilon": (0.2, 0.2), **theirs}
    counts = GlobalCounts(R, int(batch.mask_R_T.sum()), CAP)
    if method.settings.kl_beta == 0:
        batch = PolicyLossInput(**{**vars(batch), "reference_logprobs_R_T": None})
    mine, peer = method.loss(batch, counts).loss, trl_loss(batch, **theirs)
    (mine_gradient,) = torch.autograd.grad(mine, batch.logprobs_R_T)
    (peer_gradient,) = torch.autograd.grad(peer, batch.logprobs_R_T)
    torch.testing.assert_close(mine, peer, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(mine_gradient, peer_gradient, rtol=1e-5, atol=1e-7)
