"""Only what is due is sampled: the rule of `Due` as a logits processor of vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AutoTokenizer
from vllm.v1.sample.logits_processor import LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

from policies.heads.due import STATES, Due, due_in
from policies.heads.files import DUE_AT_ONCE

if TYPE_CHECKING:
    from vllm.config import VllmConfig
    from vllm.v1.sample.logits_processor import BatchUpdate


class DueTokens(LogitsProcessor):
    """Takes the probability from tokens that are not due, row by row of what vLLM decodes together."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        """Read the tokens of the model that vLLM holds."""
        folder = str(vllm_config.model_config.model)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self._rules = {kind: due_in(Path(folder), tokenizer, at_once=kind) for kind in (False, True)}
        self._device = device
        self._barred: dict[bool, Tensor] = {}
        self._answers: dict[int, tuple[Due, bool, Sequence[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """No: what is not due may be the likeliest."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Follow what comes, goes and moves among the rows."""
        process_dict_updates(self._answers, batch_update, self._of_request)

    def apply(self, logits: Tensor) -> Tensor:
        """Take the probability away, in place."""
        for at_once in (False, True):
            rows = [row for row, (_, kind, _) in self._answers.items() if kind == at_once]
            if not rows:
                continue
            rule = self._rules[at_once]
            states = [STATES.index(rule.after(self._answers[row][2])) for row in rows]
            barred = self._mask(at_once, logits.shape[-1])[torch.tensor(states, device=self._device)]
            if len(rows) == len(logits) and rows == list(range(len(rows))):
                logits.masked_fill_(barred, -torch.inf)
            else:
                chosen = torch.tensor(rows, device=self._device)
                logits[chosen] = logits[chosen].masked_fill_(barred, -torch.inf)
        return logits

    def _mask(self, at_once: bool, vocabulary: int) -> Tensor:
        if at_once not in self._barred:
            self._barred[at_once] = self._rules[at_once].mask(vocabulary).to(self._device)
        return self._barred[at_once]

    def _of_request(
        self, params: Any, _prompt: Sequence[int] | None, answer: Sequence[int]
    ) -> tuple[Due, bool, Sequence[int]] | None:
        at_once = (params.extra_args or {}).get(DUE_AT_ONCE)
        return None if at_once is None else (self._rules[at_once], at_once, answer)
