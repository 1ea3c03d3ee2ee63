"""Adapters beside a learner's own: each with a gradient and an AdamW of its own, whole on every rank.

DeepSpeed knows nothing of them. Without ZeRO it holds nothing back from them either; from stage 1 on it flattens what
its one optimizer trains when it starts, and what comes later has no place there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from actors.learning.learner import OWN, OptimizerSettings
from actors.settings import LearnerSettings
from policies.lora import add_adapters
from policies.model import Policy
from policies.settings import LoraSettings


class AddedAdapter:
    """One adapter; while it is not `active`, nothing of the policy's computation touches it."""

    def __init__(self, name: str, lora: LoraSettings, policy: Policy, settings: LearnerSettings) -> None:
        """Put it on the policy's base, acting as the base does until it has learnt."""
        self.lora, self._name, self._model, self._settings = lora, name, policy.model, settings
        add_adapters(policy.model, lora, name)
        self._model.set_adapter(OWN)
        named = policy.model.named_parameters()
        self._parameters: dict[str, Any] = {n: p for n, p in named if ".lora_" in n and f".{name}." in n}
        self._optimizer = torch.optim.AdamW(
            self._parameters.values(), lr=settings.lr, betas=settings.betas, weight_decay=settings.weight_decay
        )
        self._gradient: list[Tensor | None] = [None] * len(self._parameters)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Let it act, and learn, in place of the learner's own."""
        self._model.set_adapter(self._name)
        try:
            yield
        finally:
            self._model.set_adapter(OWN)

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """`active`, and backward passes add to its gradient; outside, no parameter shows it to DeepSpeed."""
        for parameter, gradient in zip(self._parameters.values(), self._gradient, strict=True):
            parameter.grad = gradient
        with self.active():
            yield
        self._gradient = [parameter.grad for parameter in self._parameters.values()]
        for parameter in self._parameters.values():
            parameter.grad = None

    @property
    def waits(self) -> bool:
        """Whether a gradient waits for a step."""
        return any(gradient is not None for gradient in self._gradient)

    def step(self, optimizer: OptimizerSettings) -> float:
        """Apply the sum of the ranks' gradients if it is finite; its norm (infinite: nothing was applied)."""
        for parameter, gradient in zip(self._parameters.values(), self._gradient, strict=True):
            parameter.grad = torch.zeros_like(parameter) if gradient is None else gradient
            if self._settings.ranks > 1:
                torch.distributed.all_reduce(parameter.grad)
        limit = self._settings.max_grad_norm if optimizer.max_grad_norm is None else optimizer.max_grad_norm
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters.values(), limit))
        if math.isfinite(norm):
            for group in self._optimizer.param_groups:
                group |= optimizer.given()
            self._optimizer.step()
        for parameter in self._parameters.values():
            parameter.grad = None
        self._gradient = [None] * len(self._parameters)
        return norm if math.isfinite(norm) else math.inf

    def state(self) -> dict[str, Any]:
        """Weights, optimizer and what it was made of, for `load_state`."""
        weights: dict[str, Tensor] = {name: parameter.detach() for name, parameter in self._parameters.items()}
        return {"weights": weights, "optimizer": self._optimizer.state_dict(), "lora": self.lora.model_dump()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Any]) -> None:
        """Become what `state` described; a gradient that waits is forgotten."""
        for name, parameter in self._parameters.items():
            parameter.copy_(state["weights"][name])
        self._optimizer.load_state_dict(state["optimizer"])
        self._gradient = [None] * len(self._parameters)
