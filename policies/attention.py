"""Attention over rows in which several responses share a prompt: each sees the prompt and itself.

No mask of (length x length) is made. `sdpa` computes a row part by part: the prompt among itself, then each response
over the prompt and itself, all of them causal, so that nothing is computed that nobody may see; any model whose text
takes transformers' attention functions can use it. `flex` is FlexAttention with a block mask, for comparison on GPUs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from policies.errors import PolicyError
from policies.settings import PolicySettings

Kernel = Literal["sdpa", "flex"]
Ends = Sequence[int]
"""Of one row: where its prompt ends, then where each of its responses ends. What follows is padding."""

PARTS = "parts"
BY_PARTS = "shared_prefix_by_parts"
"""The name of `sdpa` among transformers' attention functions."""


class Parts:
    """The parts of each row of a batch, and the masks of their endings that were needed so far."""

    def __init__(self, rows: Sequence[Ends]) -> None:
        """Of rows."""
        self.rows, self._endings = tuple(rows), dict[tuple[int, int], Tensor]()

    def causal_end(self, queries: int, keys: int, device: torch.device) -> Tensor:
        """For SDPA, that the queries are the last of the keys; on GPUs no numbers, flash attention knows the case."""
        if device.type == "cuda":
            return causal_lower_right(queries, keys)
        if (queries, keys) not in self._endings:
            self._endings[queries, keys] = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries)
        return self._endings[queries, keys]


def _parts_mask(rows: Sequence[Ends], device: torch.device) -> Tensor:
    """What stands where transformers expects a mask of four dimensions: no numbers, and the parts as an attribute.

    So they travel with the arguments of each layer, also of one that is computed again in the backward pass.
    """
    mask = torch.empty(len(rows), 1, 1, 0, device=device)
    setattr(mask, PARTS, Parts(rows))
    return mask


def take_kernel(model: Any, settings: PolicySettings, *, shares_prefix: bool) -> Kernel:
    """Let a model's text attend by the kernel that the settings ask for; its vision tower keeps its own.

    Raises:
        PolicyError: `flex` is asked for, and the model's text cannot use it.
    """
    parts = _text_parts(model)
    able = shares_prefix and bool(parts) and all(part._supports_flex_attn for part in parts)
    if settings.attention == "flex" and not able:
        raise PolicyError(f"policy.attention=flex: transformers has none for {model.config.model_type}; take sdpa")
    if settings.attention == "flex":
        model.set_attn_implementation({"text_config": "flex_attention"})
        return "flex"
    if shares_prefix:
        model.set_attn_implementation({"text_config": BY_PARTS})
    return "sdpa"


def _text_parts(model: Any) -> list[Any]:
    """The models whose layers read `text_config`."""
    config = model.config.get_text_config()
    return [part for part in model.modules() if hasattr(part, "_supports_flex_attn") and part.config is config]


def shared_mask(rows: Sequence[Ends], length: int, kernel: Kernel, device: torch.device) -> Any:
    """What tells the kernel which position may see which: earlier ones of the prompt, and of its own response.

    Args:
        rows: the ends of each row's parts.
        length: of all rows, padding included.
        kernel: what reads it.
        device: of the rows.
    """
    return _block_mask(rows, length, device) if kernel == "flex" else _parts_mask(rows, device)


def attend_by_parts(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """As transformers' attention functions: (B, H, L, E) with fewer heads of keys, to (B, L, H, E)."""
    parts: Parts | None = getattr(attention_mask, PARTS, None)
    if parts is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    groups, scale = query.shape[1] // key.shape[1], options.get("scaling")
    # All heads of keys are written out: the kernels for a causal end take no grouped heads.
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    rows = []
    for b, ends in enumerate(parts.rows):
        lengths = [end - start for start, end in pairwise((0, *ends, query.shape[2]))]  # of prompt, responses, padding
        queries, keys, values = (tensor[b : b + 1].split(lengths, dim=2) for tensor in (query, key, value))
        seen = [*_seen(queries, keys, values, parts, scale), torch.zeros_like(queries[-1])]
        rows.append(torch.cat(seen, dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


AttentionInterface.register(BY_PARTS, attend_by_parts)
AttentionMaskInterface.register(BY_PARTS, sdpa_mask)  # of rows that share nothing

Split = Sequence[Tensor]


def _seen(queries: Split, keys: Split, values: Split, parts: Parts, scale: float | None) -> Iterator[Tensor]:
    """What the prompt and each response of one row see; the last part is padding."""
    prompt_key, prompt_value = keys[0], values[0]
    yield scaled_dot_product_attention(queries[0], prompt_key, prompt_value, is_causal=True, scale=scale)
    for query, key, value in zip(queries[1:-1], keys[1:-1], values[1:-1], strict=True):
        seen_key, seen_value = torch.cat([prompt_key, key], dim=2), torch.cat([prompt_value, value], dim=2)
        ending = parts.causal_end(query.shape[2], seen_key.shape[2], query.device)
        yield scaled_dot_product_attention(query, seen_key, seen_value, attn_mask=ending, scale=scale)


def _block_mask(rows: Sequence[Ends], length: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    padding, prompt = -2, -1
    segments_B_L = torch.full((len(rows), length), padding)
    for b, ends in enumerate(rows):
        segments_B_L[b, : ends[0]] = prompt
        for i, (start, end) in enumerate(pairwise(ends)):
            segments_B_L[b, start:end] = i
    segments_B_L = segments_B_L.to(device)

    def may_see(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen = segments_B_L[row, key]
        return (key <= query) & ((seen == prompt) | (seen == segments_B_L[row, query]))

    # Compiled, it never holds the (length x length) numbers that it is derived from.
    compiled = device.type == "cuda"
    return create_block_mask(may_see, len(rows), None, length, length, device=str(device), _compile=compiled)
