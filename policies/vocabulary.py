"""Log-probabilities of given tokens without ever holding (tokens x vocabulary): the vocabulary projection in chunks.

`VocabularyProjection` takes the place of a model's `lm_head` and keeps its weights and names. It computes a chunk of
positions at a time, keeps one number a position (the log of the normaliser), and computes the logits again in the
backward pass. Everything happens inside one call of the module, so that ZeRO-3 gathers the weight once a pass and once
a backward pass, however many chunks there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

CHUNK_BYTES = {"cpu": 16 * 2**20, "cuda": 256 * 2**20}
"""Size of the float32 logits of one chunk: small on CPU, where they should stay near the cache, and of some 500
positions of a vocabulary of 128,256 on a GPU, enough to keep it busy."""
LEAST_ROWS = 16
"""Positions of a chunk at least, however wide the vocabulary."""


def chunk_rows(vocabulary: int, device: str) -> int:
    """Positions whose logits exist at a time."""
    return max(LEAST_ROWS, CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"]) // (4 * vocabulary))


@dataclass(frozen=True, slots=True)
class Masked:
    """Ids without probability that differ from position to position: each is in one of few states."""

    states_N: Tensor
    barred_K_V: Tensor
    """For each state, the ids that have none."""

    def apply(self, logits: Tensor, positions: slice, columns: slice) -> None:
        """Take the probability from part of the vocabulary, at part of the positions, in place."""
        logits.masked_fill_(self.barred_K_V[:, columns][self.states_N[positions]], -torch.inf)


class VocabularyProjection(nn.Linear):
    """A model's `lm_head` that also gives the log-probabilities of given tokens."""

    def forward(
        self,
        hidden: Tensor,
        token_ids_N: Tensor | None = None,
        temperature: float = 1.0,
        forbidden_ids: Sequence[int] = (),
        rows: int | None = None,
        due: Masked | None = None,
    ) -> Tensor:
        """Logits of `hidden` (..., D), as `nn.Linear`; with `token_ids_N`, log-probabilities (N,) in float32.

        Args:
            hidden: (N, D) with `token_ids_N`.
            token_ids_N: the token of each position whose log-probability is wanted.
            temperature: logits are divided by it.
            forbidden_ids: ids without probability.
            rows: positions computed at a time; None takes `chunk_rows`.
            due: which further ids have no probability at each position.
        """
        if token_ids_N is None:
            return nn.functional.linear(hidden, self.matrix(), self.bias)
        rows = rows or chunk_rows(self.out_features, hidden.device.type)
        logprobs_N: Tensor = _ChunkedLogprobs.apply(
            hidden, self.matrix(), self.bias, token_ids_N, temperature, list(forbidden_ids), rows, due
        )
        return logprobs_N

    def matrix(self) -> Tensor:
        """The weights (V, D) that act."""
        return self.weight


def project_in_chunks(model: Any) -> None:
    """Let a model's `lm_head` be a `VocabularyProjection`: the same weights under the same names.

    Raises:
        TypeError: its `lm_head` is no plain linear layer.
    """
    if type(model.lm_head) is nn.Linear:
        model.lm_head.__class__ = VocabularyProjection
    if not isinstance(model.lm_head, VocabularyProjection):
        raise TypeError(f"the lm_head of {type(model).__name__} is a {type(model.lm_head).__name__}, no linear layer")


class _ChunkedLogprobs(torch.autograd.Function):
    """log softmax(logits / temperature) at the given tokens; logits of `rows` positions exist at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_N_D: Tensor,
        weight_V_D: Tensor,
        bias_V: Tensor | None,
        token_ids_N: Tensor,
        temperature: float,
        forbidden_ids: list[int],
        rows: int,
        due: Masked | None,
    ) -> Tensor:
        chosen, normalisers = list[Tensor](), list[Tensor]()
        for first, hidden in zip(range(0, len(hidden_N_D), rows), hidden_N_D.split(rows), strict=True):
            token_ids = token_ids_N[first : first + rows]
            logits = _logits(hidden, weight_V_D, bias_V, temperature, forbidden_ids)
            if due is not None:
                due.apply(logits, slice(first, first + rows), slice(None))
            chosen.append(logits.gather(1, token_ids[:, None])[:, 0])
            normalisers.append(_normaliser(logits))
        logsumexp_N = torch.cat(normalisers)
        ctx.save_for_backward(hidden_N_D, weight_V_D, bias_V, token_ids_N, logsumexp_N)
        ctx.temperature, ctx.forbidden_ids, ctx.rows, ctx.due = temperature, forbidden_ids, rows, due
        return torch.cat(chosen) - logsumexp_N

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """By chunks of the vocabulary, so that each row of the weight's gradient is one product over all positions."""
        (grad_N,) = grads
        hidden_N_D, weight_V_D, bias_V, token_ids_N, logsumexp_N = ctx.saved_tensors
        wants_hidden, wants_weight, wants_bias, *_ = ctx.needs_input_grad
        grad_hidden_N_D = torch.zeros_like(hidden_N_D, dtype=torch.float32) if wants_hidden else None
        grad_weight_V_D = torch.empty_like(weight_V_D) if wants_weight else None
        grad_bias_V = torch.empty_like(bias_V) if wants_bias else None
        scale_N_1 = -grad_N[:, None] / ctx.temperature
        columns = max(1, ctx.rows * len(weight_V_D) // max(1, len(hidden_N_D)))
        for first in range(0, len(weight_V_D), columns):
            part = slice(first, first + columns)
            weight, bias = weight_V_D[part], None if bias_V is None else bias_V[part]
            forbidden = [id_ - first for id_ in ctx.forbidden_ids if first <= id_ < first + len(weight)]
            slope = _logits(hidden_N_D, weight, bias, ctx.temperature, forbidden)
            if ctx.due is not None:
                ctx.due.apply(slope, slice(None), part)
            # d lp / d logits = (1[token] - softmax) / temperature
            slope.sub_(logsumexp_N[:, None]).exp_().mul_(scale_N_1)
            own_N_1 = (token_ids_N - first)[:, None]
            inside_N_1 = (own_N_1 >= 0) & (own_N_1 < len(weight))
            slope.scatter_add_(1, own_N_1.clamp(0, len(weight) - 1), (-scale_N_1).where(inside_N_1, 0.0))
            slope = slope.to(weight.dtype)
            if grad_hidden_N_D is not None:
                grad_hidden_N_D += slope @ weight
            if grad_weight_V_D is not None:
                torch.mm(slope.t(), hidden_N_D, out=grad_weight_V_D[part])
            if grad_bias_V is not None:
                torch.sum(slope, 0, out=grad_bias_V[part])
        if grad_hidden_N_D is not None:
            grad_hidden_N_D = grad_hidden_N_D.to(hidden_N_D.dtype)
        return grad_hidden_N_D, grad_weight_V_D, grad_bias_V, None, None, None, None, None


def _logits(
    hidden_N_D: Tensor, weight_V_D: Tensor, bias_V: Tensor | None, temperature: float, forbidden_ids: list[int]
) -> Tensor:
    logits_N_V = nn.functional.linear(hidden_N_D, weight_V_D, bias_V).float()
    if temperature != 1.0:
        logits_N_V.div_(temperature)
    if forbidden_ids:
        logits_N_V[:, forbidden_ids] = -torch.inf
    return logits_N_V


def _normaliser(logits_N_V: Tensor) -> Tensor:
    """logsumexp over the vocabulary, in place: what is in `logits_N_V` afterwards is of no use."""
    most_N_1 = logits_N_V.amax(dim=1, keepdim=True)
    return logits_N_V.sub_(most_N_1).exp_().sum(dim=1).log_() + most_N_1[:, 0]
