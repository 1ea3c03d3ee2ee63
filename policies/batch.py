"""`Batch`: packed token tensors with advantages and masks: what the model and the loss see.

A *row* is one sequence of the forward pass. With `shared_prefix`, a row is a whole group: the prompt (text and six
images) once, then its responses side by side, each with positions that restart after the prompt and a mask in which
it sees the prompt and itself. Otherwise a row is a prompt and one response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class TrainingResponse:
    """One response to learn from: the engine's own token ids, never re-tokenised text."""

    token_ids: tuple[int, ...]
    rollout_logprobs: tuple[float, ...]
    advantage: float
    old_logprobs: tuple[float, ...] | None = None
    """The learner's own, from before the first of several updates on this batch; None: this is the first update."""


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """One prompt with its images (paths, in prompt order) and the responses to learn from."""

    images: tuple[str, ...]
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
    """Keyword arguments of the model body: `input_ids` (B, L), `attention_mask`, `position_ids`, image tensors."""
    source_R_T: Tensor
    """Flat index b * L + l of the position whose output predicts the token."""
    token_ids_R_T: Tensor
    """The response tokens, padded with 0."""
    mask_R_T: Tensor
    """1.0 on real tokens."""
    rollout_logprobs_R_T: Tensor
    """The engine's log-probabilities, padded with 0."""
    old_logprobs_R_T: Tensor | None
    """The learner's own before the first update on this batch; None when this is it."""
    advantages_R: Tensor
    """One advantage per response."""

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        moved = {
            field.name: value.to(device)
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), Tensor)
        }
        inputs = {name: tensor.to(device) for name, tensor in self.model_inputs.items()}
        return replace(self, model_inputs=inputs, **moved)


ImageTensors = Callable[[tuple[str, ...]], dict[str, Tensor]]
"""From the image paths of one prompt to the image tensors of the model, concatenable along dimension 0."""


def pack(groups: Sequence[TrainingGroup], image_tensors: ImageTensors, *, pad_id: int, shared_prefix: bool) -> Batch:
    """Pack groups into one micro-batch.

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
    inputs = {"input_ids": input_ids_B_L, **_positions(rows, length, shared_prefix)}
    per_row = [image_tensors(row.images) for row in rows]
    inputs |= {name: torch.cat([tensors[name] for tensors in per_row]) for name in per_row[0]}

    responses = [response for group in groups for response in group.responses]
    starts = [(b, span) for b, row in enumerate(rows) for span in row.spans]
    width = max(len(response.token_ids) for response in responses)
    source_R_T = torch.zeros(len(responses), width, dtype=torch.long)
    for r, (response, (b, span)) in enumerate(zip(responses, starts, strict=True)):
        count = len(response.token_ids)
        positions = torch.arange(span.start - 1, span.start - 1 + count)
        positions[0] = span.prompt_length - 1  # the prompt's last position predicts every response's first token
        source_R_T[r, :count] = b * length + positions
    old = [response.old_logprobs for response in responses]
    return Batch(
        model_inputs=inputs,
        source_R_T=source_R_T,
        token_ids_R_T=_padded([response.token_ids for response in responses], width),
        mask_R_T=_padded([(1.0,) * len(response.token_ids) for response in responses], width),
        rollout_logprobs_R_T=_padded([response.rollout_logprobs for response in responses], width),
        old_logprobs_R_T=None if None in old else _padded([row for row in old if row is not None], width),
        advantages_R=torch.tensor([response.advantage for response in responses]),
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
    images: tuple[str, ...]
    spans: list[_Span]


def _shared_rows(groups: Sequence[TrainingGroup]) -> list[_Row]:
    rows = []
    for group in groups:
        token_ids, spans = list(group.prompt_ids), []
        for response in group.responses:
            # The last token predicts nothing that is learnt, but keeping it keeps spans and tokens aligned.
            start = len(token_ids)
            token_ids += response.token_ids
            spans.append(_Span(len(group.prompt_ids), start, len(token_ids)))
        rows.append(_Row(token_ids, group.images, spans))
    return rows


def _plain_rows(groups: Sequence[TrainingGroup]) -> list[_Row]:
    rows = []
    for group in groups:
        prompt = len(group.prompt_ids)
        for response in group.responses:
            token_ids = [*group.prompt_ids, *response.token_ids]
            rows.append(_Row(token_ids, group.images, [_Span(prompt, prompt, len(token_ids))]))
    return rows


def _positions(rows: Sequence[_Row], length: int, shared_prefix: bool) -> dict[str, Tensor]:
    """Attention mask and position ids; plain rows leave the positions to the model (multimodal rotary needs that)."""
    if not shared_prefix:
        mask_B_L = torch.zeros(len(rows), length, dtype=torch.long)
        for b, row in enumerate(rows):
            mask_B_L[b, : len(row.token_ids)] = 1
        return {"attention_mask": mask_B_L}
    position_ids_B_L = torch.zeros(len(rows), length, dtype=torch.long)
    segment_B_L = torch.full((len(rows), length), -2)  # -2 padding, -1 prompt, i the i-th response of the row
    for b, row in enumerate(rows):
        prompt = row.spans[0].prompt_length
        position_ids_B_L[b, :prompt] = torch.arange(prompt)
        segment_B_L[b, :prompt] = -1
        for i, span in enumerate(row.spans):
            position_ids_B_L[b, span.start : span.end] = torch.arange(prompt, prompt + span.end - span.start)
            segment_B_L[b, span.start : span.end] = i
    earlier_L_L = torch.ones(length, length, dtype=torch.bool).tril()
    same_B_L_L = segment_B_L[:, :, None] == segment_B_L[:, None, :]
    prompt_B_1_L = (segment_B_L == -1)[:, None, :]
    allowed_B_L_L = earlier_L_L & (same_B_L_L | prompt_B_1_L)
    blocked = torch.finfo(torch.float32).min
    mask_B_1_L_L = torch.zeros(len(rows), 1, length, length).masked_fill(~allowed_B_L_L[:, None], blocked)
    return {"attention_mask": mask_B_1_L_L, "position_ids": position_ids_B_L}
