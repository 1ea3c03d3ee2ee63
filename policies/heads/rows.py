"""Rows that are learnt beside adapters: of a frozen matrix only the driving tokens' rows have a gradient.

They are a small matrix of their own, `rows`, which stands in for those of the frozen one in every pass. So optimizer
and gradient have the size of the new tokens, not of the vocabulary; weight sync and export see one whole matrix again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn

from policies.errors import PolicyError
from policies.vocabulary import VocabularyProjection

ROWS = "rows"


class _Grown(nn.Module):
    """What both matrices have."""

    weight: Tensor
    rows: nn.Parameter
    first: int
    active: bool

    def whole(self) -> Tensor:
        """The matrix as it acts, (V, D)."""
        if not self.active:
            return self.weight
        last = self.first + self.rows.shape[0]
        return torch.cat([self.weight[: self.first], self.rows, self.weight[last:]])


class GrownEmbedding(_Grown, nn.Embedding):
    """A frozen embedding some of whose rows are learnt."""

    def forward(self, ids: Tensor) -> Tensor:
        """As `nn.Embedding`, without a copy of the matrix."""
        found = nn.Embedding.forward(self, ids)
        if not self.active:
            return found
        count = self.rows.shape[0]
        place = ids - self.first
        learnt = (place >= 0) & (place < count)
        return torch.where(learnt[..., None], nn.functional.embedding(place.clamp(0, count - 1), self.rows), found)


class GrownProjection(_Grown, VocabularyProjection):
    """A frozen vocabulary projection some of whose rows are learnt."""

    def matrix(self) -> Tensor:
        """See `VocabularyProjection.matrix`."""
        return self.whole()


def learn_rows(model: Any, ids: Sequence[int]) -> None:
    """Let the rows of these tokens be learnt, in the embedding and in the projection, tied or not.

    Called before adapters are added; they freeze all that is there, and `release_rows` lets the rows go again.

    Raises:
        PolicyError: the tokens do not lie side by side in the vocabulary.
    """
    first, count = min(ids), len(ids)
    if sorted(ids) != list(range(first, first + count)):
        raise PolicyError("the driving tokens do not lie side by side in the vocabulary: grow the model anew")
    embedding, projection = model.get_input_embeddings(), model.get_output_embeddings()
    tied = projection.weight is embedding.weight
    _grow(embedding, GrownEmbedding, first, count)
    _grow(projection, GrownProjection, first, count, cast(nn.Parameter, embedding.rows) if tied else None)


def release_rows(model: nn.Module) -> None:
    """Give the rows a gradient."""
    for module in grown(model).values():
        module.rows.requires_grad_(True)


def grown(model: nn.Module) -> dict[str, _Grown]:
    """The matrices with learnt rows, by module name; a tied pair is two."""
    return {name: module for name, module in model.named_modules() if isinstance(module, _Grown)}


@contextmanager
def without_rows(model: nn.Module) -> Iterator[None]:
    """The model as it was before its rows learnt anything."""
    modules = list(grown(model).values())
    for module in modules:
        module.active = False
    try:
        yield
    finally:
        for module in modules:
            module.active = True


def _grow(module: Any, kind: type[_Grown], first: int, count: int, rows: nn.Parameter | None = None) -> None:
    module.__class__ = kind
    module.first, module.active = first, True
    if rows is None:
        with _gathered(module.weight):
            rows = nn.Parameter(module.weight.detach()[first : first + count].clone())
    module.register_parameter(ROWS, rows)


def _gathered(weight: Any) -> AbstractContextManager[Any]:
    """A matrix made whole that ZeRO-3 sharded while it was loaded."""
    if not hasattr(weight, "ds_id"):
        return nullcontext()
    import deepspeed

    context: AbstractContextManager[Any] = deepspeed.zero.GatheredParameters([weight])
    return context
