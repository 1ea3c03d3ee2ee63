"""Llama-3.2-Vision looks at its images by cross-attention: which tokens of a row may look at which images."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)


def cross_attention_mask(
    input_ids_B_L: Tensor, attention_mask_B_L: Tensor, image_token_id: int, tiles_B_N_K: Tensor
) -> Tensor:
    """The model's `cross_attention_mask`, (B, L, N, K), by its processor's own rule, for rows with their responses.

    Args:
        input_ids_B_L: prompts with what follows them.
        attention_mask_B_L: 1 on the tokens of a row, 0 behind them.
        image_token_id: the token that stands for an image.
        tiles_B_N_K: the model's `aspect_ratio_mask`: 1 on the tiles that each of the N images of a row has.
    """
    rows = [ids[: int(mask.sum())].tolist() for ids, mask in zip(input_ids_B_L, attention_mask_B_L, strict=True)]
    spans = [get_cross_attention_token_mask(row, image_token_id) for row in rows]
    tiles = tiles_B_N_K.sum(dim=2).tolist()
    dense = convert_sparse_cross_attention_mask_to_dense(spans, tiles, tiles_B_N_K.shape[2], input_ids_B_L.shape[1])
    return torch.from_numpy(dense).to(input_ids_B_L.device)
