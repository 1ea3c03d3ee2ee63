"""Attention over rows in which several responses share a prompt: each sees the prompt and itself.

On CPU the mask is a tensor for SDPA. On a GPU it is a block mask for FlexAttention, which computes no block that nobody
may see: of G responses to one prompt, those between two responses.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from policies.errors import PolicyError
from policies.settings import PolicySettings

PADDING, PROMPT = -2, -1
"""What `segments_B_L` holds beside the number of a response."""

Kernel = Literal["sdpa", "flex"]


def take_kernel(model: Any, settings: PolicySettings, *, shares_prefix: bool) -> Kernel:
    """Let a model's text attend by the kernel that the settings ask for; its vision tower keeps its own.

    `auto` takes FlexAttention where there is a GPU, the model can share prompts, and its text can use it (Qwen's, in
    transformers, cannot).

    Raises:
        PolicyError: `flex` is asked for, and the model's text cannot use it.
    """
    parts = _text_parts(model)
    able = shares_prefix and bool(parts) and all(part._supports_flex_attn for part in parts)
    if settings.attention == "flex" and not able:
        raise PolicyError(f"policy.attention=flex: transformers has none for {model.config.model_type}; take sdpa")
    kernel: Kernel = "sdpa"
    if settings.attention == "flex" or (settings.attention == "auto" and able and torch.cuda.is_available()):
        kernel = "flex"
        model.set_attn_implementation({"text_config": "flex_attention"})
    return kernel


def _text_parts(model: Any) -> list[Any]:
    """The models whose layers read `text_config`."""
    config = model.config.get_text_config()
    return [part for part in model.modules() if hasattr(part, "_supports_flex_attn") and part.config is config]


def shared_mask(segments_B_L: Tensor, kernel: Kernel, dtype: torch.dtype) -> Any:
    """What each position may see: earlier positions of the prompt, and of its own response.

    Args:
        segments_B_L: `PROMPT`, the number of a response in its row, or `PADDING`.
        kernel: what reads the mask.
        dtype: of the attention scores.

    Returns:
        (B, 1, L, L) to be added to the scores, or FlexAttention's `BlockMask`.
    """
    if kernel == "flex":
        return _block_mask(segments_B_L)
    length = segments_B_L.shape[1]
    earlier_L_L = torch.ones(length, length, dtype=torch.bool, device=segments_B_L.device).tril()
    same_B_L_L = segments_B_L[:, :, None] == segments_B_L[:, None, :]
    prompt_B_1_L = (segments_B_L == PROMPT)[:, None, :]
    allowed_B_L_L = earlier_L_L & (same_B_L_L | prompt_B_1_L)
    mask_B_1_L_L = torch.zeros(allowed_B_L_L.shape, dtype=dtype, device=segments_B_L.device)[:, None]
    return mask_B_1_L_L.masked_fill(~allowed_B_L_L[:, None], torch.finfo(dtype).min)


def _block_mask(segments_B_L: Tensor) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    def may_see(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = segments_B_L[row, key]
        return (key <= query) & ((seen == PROMPT) | (seen == segments_B_L[row, query]))

    rows, length = segments_B_L.shape
    return create_block_mask(may_see, rows, None, length, length, device=str(segments_B_L.device))
