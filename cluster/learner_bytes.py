"""What a learner rank holds beside the activations of a pass, in bytes: arithmetic over DeepSpeed's own rules.

Read in the installed DeepSpeed: ZeRO keeps a float32 copy of what it updates in any dtype (`zero/stage3.py`,
`_create_fp32_partitions`; `zero/stage_1_and_2.py`, `single_partition_of_fp32_groups`), and stage 3 gives gathered
weights back only when they are not needed again within `stage3_max_reuse_distance`
(`zero/partitioned_param_coordinator.py`).
"""

from __future__ import annotations

from actors.settings import LearnerSettings
from cluster.architecture import Architecture
from cluster.memory import BYTES, FOUR_BIT_BYTES, held_in_four_bit
from policies.settings import PolicySettings

BUCKET_NUMBERS = 50_000_000
"""As in `actors.learning.deepspeed_config`, which brings torch."""
REDUCED_NUMBERS = 500_000_000
"""Gradients that DeepSpeed reduces together without ZeRO."""
LIVE_NUMBERS = 1_000_000_000
"""DeepSpeed's own `stage3_max_live_parameters` and `stage3_max_reuse_distance`: weights that stay gathered."""


def states(model: Architecture, learning: int, learner: LearnerSettings, policy: PolicySettings) -> dict[str, float]:
    """Between passes: weights, gradients, and the optimizer with its copy of the weights; a reference apart.

    Args:
        model: the policy.
        learning: how many of its parameters learn.
        learner: ranks, ZeRO stage and optimizer.
        policy: dtype of the weights, and whether those below the adapters are held in 4 bits; the one matrix that is
            then unpacked for a moment is not counted.
    """
    size, packed = BYTES[policy.dtype], held_in_four_bit(policy, model.body)
    over = {stage: learner.ranks if learner.zero_stage >= stage else 1 for stage in (1, 2, 3)}
    moments = 2 if learner.optimizer == "adamw_8bit" else 8
    own = moments + (4 if learner.zero_stage >= 1 or policy.dtype != "float32" else 0)
    kept = 4 if learner.zero_stage >= 2 else size
    return {
        "weights": (size * (model.parameters - packed) + FOUR_BIT_BYTES * packed) / over[3],
        "gradients": kept * learning / over[2],
        "optimizer": 0.0 if learner.offload_optimizer else own * learning / over[1],
    }


def after_passes(learning: int, learner: LearnerSettings, dtype: str) -> float:
    """When activations are gone: without ZeRO, gradients are reduced as one flat copy, even on a single rank.

    Source: `deepspeed/runtime/engine.py`, `allreduce_bucket` and `MEMORY_OPT_ALLREDUCE_SIZE`.
    """
    return 0.0 if learner.zero_stage >= 1 else float(BYTES[dtype] * min(learning, REDUCED_NUMBERS))


def of_passes(model: Architecture, learner: LearnerSettings, dtype: str) -> dict[str, float]:
    """During passes: weights that are gathered from other ranks, and the bucket that gradients are reduced in."""
    sharded = learner.zero_stage == 3 and learner.ranks > 1
    most = max(LIVE_NUMBERS, model.head, model.largest_layer) + BUCKET_NUMBERS
    return {
        "gathered layers": BYTES[dtype] * min(model.parameters, most) if sharded else 0.0,
        "buckets": 4.0 * BUCKET_NUMBERS if learner.ranks > 1 else 0.0,
    }
