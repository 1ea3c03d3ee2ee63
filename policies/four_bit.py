"""A language model whose weights are held in 4 bits below its adapters (QLoRA; arXiv 2305.14314), by bitsandbytes.

The vision tower, the projector, the embeddings and the output layer stay as they are. The learner's own forward pass
and an engine that gets the weights merged use the same rounded numbers: `unpacked`.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import torch
from torch import Tensor, nn

from policies.errors import PolicyError
from policies.parts import PROJECTORS, TOWERS
from policies.settings import PolicySettings


def quantization(settings: PolicySettings) -> Any:
    """What transformers' `quantization_config` takes; None: the weights stay in full.

    Raises:
        PolicyError: bitsandbytes is not installed.
    """
    if settings.lora is None or not settings.lora.four_bit:
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise PolicyError("policy.lora.four_bit needs bitsandbytes, which is not here: pip install bitsandbytes")
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, settings.dtype),
        llm_int8_skip_modules=[*(f"model.{part}" for part in (*TOWERS, *PROJECTORS)), "lm_head"],
    )


def keep_format(model: nn.Module) -> None:
    """Let the layers stay as they were loaded: on processors with AVX512-BF16, bitsandbytes would compute without
    gradients in bfloat16 whatever dtype was asked for, and learner and engine would differ."""
    if "bitsandbytes" not in sys.modules:
        return
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def is_packed(parameter: nn.Parameter | Tensor) -> bool:
    """Whether its values are 4 bits each, two in a byte, beside the scales of their blocks."""
    return hasattr(parameter, "quant_state")


def unpacked(parameter: nn.Parameter | Tensor) -> Tensor:
    """The values that a weight acts with, in its own shape and the dtype that it had in full."""
    if not is_packed(parameter):
        return parameter
    from bitsandbytes.functional import dequantize_4bit

    values: Tensor = dequantize_4bit(parameter.data, parameter.quant_state)  # type: ignore[union-attr]
    return values


def shape_of(parameter: nn.Parameter | Tensor) -> tuple[int, ...]:
    """The shape of a weight in full."""
    return tuple(parameter.quant_state.shape if is_packed(parameter) else parameter.shape)  # type: ignore[union-attr]
