"""What only learning needs, moved to host memory while engines generate on the same device.

DeepSpeed moves its own copies of weights and gradients (`offload_states`); the optimizer's state and the reference are
moved here. The weights themselves stay, since they are sent to the engines meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum
from torch import Tensor

HOST = torch.device("cpu")
MOVED_BY_DEEPSPEED = {
    0: (),
    1: (OffloadStateTypeEnum.hp_params, OffloadStateTypeEnum.lp_grads),
    2: (OffloadStateTypeEnum.hp_params, OffloadStateTypeEnum.lp_grads),
    3: (OffloadStateTypeEnum.lp_grads, OffloadStateTypeEnum.contiguous_grad_buffer),
}
"""By ZeRO stage. At stage 3 the float32 weights must lie in host memory anyway (`learner.offload_optimizer`): DeepSpeed
moves them for an optimizer of its own alone."""


class PutAside:
    """Moves, and brings back to where it was."""

    def __init__(self, engine: Any, stage: int) -> None:
        """Of this DeepSpeed engine."""
        self._engine, self._states = engine, MOVED_BY_DEEPSPEED[stage]
        self._moved: list[tuple[Tensor, torch.device]] = []
        self._away = False

    def offload(self, reference: Iterable[Tensor]) -> None:
        """Move everything, and the weights of a reference that are a copy."""
        if self._away:
            return
        self._away = True
        for tensor in (*self._optimizer_state(), *reference):
            self._moved.append((tensor, tensor.device))
            tensor.data = tensor.data.to(HOST)
        if self._states:
            self._engine.offload_states(include=self._states, pin_memory=False)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def reload(self) -> None:
        """Bring everything back."""
        if not self._away:
            return
        self._away = False
        for tensor, device in self._moved:
            tensor.data = tensor.data.to(device)
        self._moved = []
        if self._states:
            self._engine.reload_states()

    def _optimizer_state(self) -> list[Tensor]:
        optimizer: Any = self._engine.optimizer
        plain = getattr(optimizer, "optimizer", optimizer)  # DeepSpeed's wrap the one that they were given
        return [value for state in plain.state.values() for value in state.values() if isinstance(value, Tensor)]
