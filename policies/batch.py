"""`Batch`: packed token tensors with credits and masks: what the model and the loss see.

A *row* is one sequence of the forward pass. With `shared_prefix`, a row is a whole group: the prompt (text and six
images) once, then its responses side by side, each with positions that restart after the prompt and a mask in which
it sees the prompt and itself. Otherwise a row is a prompt and one response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from policies.attention import Ends
from policies.views import Views


@dataclass(frozen=True, slots=True)
class TrainingResponse:
    """One response to learn from: the engine's own token ids, never re-tokenised text."""

    token_ids: tuple[int, ...]
    rollout_logprobs: tuple[float, ...]
    credits: tuple[float, ...]
    """What each token is credited with: its advantage, or its reward where advantages are formed over the whole batch
    (`policies.algorithms.algorithm.Algorithm.credits`)."""
    id: str = ""
    """Of the request that it answers; empty for a demonstration."""


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One prompt with the images of its sample (names and paths) and the responses to learn from.

    Without responses it takes part in the computation and teaches nothing: its rank keeps step with the others.
    """

    images: Views
    prompt_ids: tuple[int, ...]
    responses: tuple[TrainingResponse, ...]

    @property
    def tokens(self) -> int:
        """Response tokens that count."""
        return sum(len(response.token_ids) for response in self.responses)


@dataclass(frozen=True)
class Batch:
    """Tensors of one micro-batch. B rows of L positions hold R responses of at most T tokens."""

    model_inputs: dict[str, Tensor]
    """Keyword arguments of the model body: `input_ids` (B, L), image tensors, and `position_ids` of shared rows, or the
    `attention_mask` of plain ones."""
    shared: tuple[Ends, ...] | None
    """Where responses share a prompt, the ends of each row's parts (`policies.attention`); None: plain rows."""
    source_R_T: Tensor
    """Flat index b * L + l of the position whose output predicts the token."""
    token_ids_R_T: Tensor
    """The response tokens, padded with 0."""
    mask_R_T: Tensor
    """1.0 on real tokens."""
    real_N: Tensor
    """Flat index r * T + t of every real token: what is computed of the vocabulary, padding left out."""
    rollout_logprobs_R_T: Tensor
    """The engine's log-probabilities, padded with 0."""
    credits_R_T: Tensor
    """What each token is credited with, padded with 0."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved: dict[str, Any] = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        inputs = {name: tensor.to(device) for name, tensor in self.model_inputs.items()}
        return replace(self, model_inputs=inputs, **moved)


ImageTensors = Callable[[Views], dict[str, Tensor]]
"""From the images of one sample to the image tensors of the model, concatenable along dimension 0."""


PromptPositions = Callable[[tuple[int, ...], dict[str, Tensor]], Tensor]
"""From the ids of one prompt and its image tensors to the position ids of its tokens, (axes, prompt length)."""


def counted_positions(prompt_ids: tuple[int, ...], images: dict[str, Tensor]) -> Tensor:
    """0, 1, 2, ... on one axis: what most models number their tokens by."""
    return torch.arange(len(prompt_ids))[None]


def pack(
    groups: Sequence[TrainingGroup],
    image_tensors: ImageTensors,
    *,
    pad_id: int,
    shared_prefix: bool,
    prompt_positions: PromptPositions = counted_positions,
) -> Batch:
    """Pack groups into one micro-batch.

    Args:
        groups: prompts with their responses.
        image_tensors: gives the images of a prompt.
        pad_id: what fills the shorter rows.
        shared_prefix: one row for each group, instead of one for each response.
        prompt_positions: numbers the tokens of a prompt, for shared rows; its responses are numbered on from there.

    Raises:
        ValueError: a response is empty (its tokens would be predicted by nothing).
    """
    if any(not response.token_ids for group in groups for response in group.responses):
        raise ValueError("a response without tokens cannot be learnt from; drop it before packing")
    rows = _shared_rows(groups) if shared_prefix else _plain_rows(groups)
    length = max(len(row.token_ids) for row in rows)
    input_ids_B_L = torch.full((len(rows), length), pad_id)
    for b, row in enumerate(rows):
        input_ids_B_L[b, : len(row.token_ids)] = torch.tensor(row.token_ids)
    per_row = [image_tensors(row.images) for row in rows]
    inputs = {"input_ids": input_ids_B_L}
    if shared_prefix:
        inputs["position_ids"] = _shared_positions(rows, per_row, length, prompt_positions)
    else:  # the positions are left to the model
        lengths_B_1 = torch.tensor([[len(row.token_ids)] for row in rows])
        inputs["attention_mask"] = (torch.arange(length) < lengths_B_1).long()
    named = dict.fromkeys(name for tensors in per_row for name in tensors)
    inputs |= {name: torch.cat([tensors[name] for tensors in per_row if name in tensors]) for name in named}

    responses = [response for group in groups for response in group.responses]
    starts = [(b, span) for b, row in enumerate(rows) for span in row.spans]
    width = max(len(response.token_ids) for response in responses)
    source_R_T = torch.zeros(len(responses), width, dtype=torch.long)
    for r, (response, (b, span)) in enumerate(zip(responses, starts, strict=True)):
        count = len(response.token_ids)
        positions = torch.arange(span.start - 1, span.start - 1 + count)
        positions[0] = span.prompt_length - 1  # the prompt's last position predicts every response's first token
        source_R_T[r, :count] = b * length + positions
    mask_R_T = _padded([(1.0,) * len(response.token_ids) for response in responses], width)
    return Batch(
        model_inputs=inputs,
        shared=tuple(row.ends for row in rows) if shared_prefix else None,
        source_R_T=source_R_T,
        token_ids_R_T=_padded([response.token_ids for response in responses], width),
        mask_R_T=mask_R_T,
        real_N=mask_R_T.flatten().nonzero()[:, 0],
        rollout_logprobs_R_T=_padded([response.rollout_logprobs for response in responses], width),
        credits_R_T=_padded([response.credits for response in responses], width),
    )


def credits_and_mask(groups: Sequence[TrainingGroup]) -> tuple[Tensor, Tensor]:
    """As `pack` gives them, (R, T), without what the model reads."""
    responses = [response for group in groups for response in group.responses]
    width = max(len(response.token_ids) for response in responses)
    return (
        _padded([response.credits for response in responses], width),
        _padded([(1.0,) * len(response.token_ids) for response in responses], width),
    )


def _padded(rows: Sequence[Sequence[float]], width: int) -> Tensor:
    """Rows of unequal length as one tensor, padded with 0."""
    return torch.stack([torch.nn.functional.pad(torch.tensor(row), (0, width - len(row))) for row in rows])


@dataclass(frozen=True)
class _Span:
    """Where one response lies in its row."""

    prompt_length: int
    start: int
    end: int


@dataclass(frozen=True)
class _Row:
    token_ids: list[int]
    images: Views
    prompt_length: int
    spans: list[_Span]

    @property
    def ends(self) -> tuple[int, ...]:
        return (self.prompt_length, *(span.end for span in self.spans))


def _shared_rows(groups: Sequence[TrainingGroup]) -> list[_Row]:
    rows = []
    for group in groups:
        token_ids, spans = list(group.prompt_ids), []
        for response in group.responses:
            # The last token predicts nothing that is learnt, but keeping it keeps spans and tokens aligned.
            start = len(token_ids)
            token_ids += response.token_ids
            spans.append(_Span(len(group.prompt_ids), start, len(token_ids)))
        rows.append(_Row(token_ids, group.images, len(group.prompt_ids), spans))
    return rows


def _plain_rows(groups: Sequence[TrainingGroup]) -> list[_Row]:
    rows = []
    for group in groups:
        prompt = len(group.prompt_ids)
        for response in group.responses:
            token_ids = [*group.prompt_ids, *response.token_ids]
            rows.append(_Row(token_ids, group.images, prompt, [_Span(prompt, prompt, len(token_ids))]))
        if not group.responses:
            rows.append(_Row(list(group.prompt_ids), group.images, prompt, []))
    return rows


def _shared_positions(
    rows: Sequence[_Row], images: Sequence[dict[str, Tensor]], length: int, prompt_positions: PromptPositions
) -> Tensor:
    """Position ids, (B, L), or (axes, B, L) where there are several: each response goes on from its prompt."""
    of_rows = []
    for row, tensors in zip(rows, images, strict=True):
        prompt = row.prompt_length
        own_A_L = prompt_positions(tuple(row.token_ids[:prompt]), tensors)
        onward = [torch.arange(span.end - span.start) + own_A_L.max() + 1 for span in row.spans]
        position_A_L = torch.cat([own_A_L, *(one.expand(len(own_A_L), -1) for one in onward)], dim=1)
        of_rows.append(torch.nn.functional.pad(position_A_L, (0, length - position_A_L.shape[1])))
    positions_A_B_L = torch.stack(of_rows, dim=1)
    return positions_A_B_L[0] if len(positions_A_B_L) == 1 else positions_A_B_L
