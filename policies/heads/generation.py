"""Only what is due is sampled, in transformers' `generate`."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LogitsProcessor

from policies.heads.due import STATES, Due


class DueLogits(LogitsProcessor):
    """Takes the probability from tokens that are not due after a prompt of a known length."""

    def __init__(self, due: Due, prompt: int) -> None:
        """`prompt`: tokens before the answer."""
        self._due, self._prompt = due, prompt

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The scores (B, V) after the ids (B, L)."""
        states = [STATES.index(self._due.after(ids)) for ids in input_ids[:, self._prompt :].tolist()]
        barred = self._due.mask(scores.shape[-1]).to(scores.device)
        return scores.masked_fill(barred[torch.tensor(states, device=scores.device)], -torch.inf)
