"""What DeepSpeed is given besides the model: its configuration, and the optimizer over the policy's weights."""

from __future__ import annotations

from typing import Any

import torch

from actors.settings import LearnerSettings
from policies.model import Policy

BUCKET_NUMBERS = 50_000_000
"""Numbers of a bucket: of gradients that are reduced together, and of weights that ZeRO-3 gathers ahead. The 500
million that DeepSpeed takes for gradients are 2 GB of a GPU in float32."""
VALUE_HEAD = "value_head"
"""The optimizer's name for a critic's own weights."""


def deepspeed_config(settings: LearnerSettings, dtype: str) -> dict[str, Any]:
    """DeepSpeed's configuration; the learner says itself when what was accumulated is whole."""
    zero: dict[str, Any] = {"stage": settings.zero_stage, "reduce_bucket_size": BUCKET_NUMBERS}
    if settings.zero_stage == 3:
        zero |= {"stage3_param_persistence_threshold": 0, "stage3_prefetch_bucket_size": BUCKET_NUMBERS}
    if settings.offload_optimizer:
        zero["offload_optimizer"] = {"device": "cpu"}
    config: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": settings.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == "bfloat16"},
    }
    if dtype == "bfloat16" and settings.zero_stage >= 2:
        # Summed in bfloat16, what a micro-batch adds gets lost the more of them there are. DeepSpeed can do this for
        # these stages alone: not without ZeRO, and its optimizer for stage 1 cannot skip a gradient that is not finite.
        config["data_types"] = {"grad_accum_dtype": "fp32"}
    return config


def clip_at(engine: Any, norm: float) -> None:
    """Clip the gradients of the next step at a norm."""
    engine._config.gradient_clipping = norm  # which DeepSpeed reads at every step without ZeRO
    if hasattr(engine.optimizer, "clip_grad"):
        engine.optimizer.clip_grad = norm


def forget_moments(engine: Any) -> None:
    """Bring AdamW's state to where it was before the first step; the tensors stay, since checkpoints hold them."""
    optimizer = getattr(engine.optimizer, "optimizer", engine.optimizer)  # ZeRO's wrap the one that they were given
    for state in optimizer.state.values():
        for name, value in state.items():
            if name == "step" and not isinstance(value, torch.Tensor):
                state[name] = 0
            elif isinstance(value, torch.Tensor) and not name.startswith("qmap"):  # 8 bits: what a code stands for
                value.zero_()


def make_optimizer(policy: Policy, settings: LearnerSettings) -> torch.optim.Optimizer:
    """AdamW over what is trained; a critic's weights are a group of their own, under the name `VALUE_HEAD`."""
    common: dict[str, Any] = {"lr": settings.lr, "betas": settings.betas, "weight_decay": settings.weight_decay}
    if settings.optimizer == "adamw_8bit":
        from bitsandbytes.optim import AdamW8bit  # of the GPU extra; `cluster.plan` refuses it elsewhere

        return AdamW8bit(_parameter_groups(policy), **common)
    return torch.optim.AdamW(_parameter_groups(policy), **common, fused=True)  # fused: a third of the time on CPU


def _parameter_groups(policy: Policy) -> list[dict[str, Any]]:
    head = [] if policy.value_head is None else list(policy.value_head.parameters())
    known = set(map(id, head))
    body = [p for p in policy.parameters() if p.requires_grad and id(p) not in known]
    groups = [{"params": body, "name": "policy"}, {"params": head, "name": VALUE_HEAD}]
    return [group for group in groups if group["params"]]
