"""Datums: sequences with a target of their own at every position, as a client of the training service sends them.

They become the groups and the `Batch` that every learner knows: neighbours that begin alike (the responses to one
prompt) share one row, so that a prompt and its images are computed once. No HTTP and no actors here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policies.batch import (
    Batch,
    ImageTensors,
    PromptPositions,
    TrainingGroup,
    TrainingResponse,
    counted_positions,
    pack,
)
from policies.micro_batches import MicroBatchLimits, cut, fitted
from policies.views import Views

SHORTEST_PREFIX = 16
"""Fewer common positions are not worth a shared row."""


@dataclass(frozen=True)
class Datum:
    """One sequence of N positions; at each, K targets (nearly always 1)."""

    images: Views
    token_ids: tuple[int, ...]
    """(N): what the model reads, images expanded to their placeholders."""
    prompt: int
    """Positions up to and with the last image; 1 or more."""
    targets_N_K: np.ndarray
    """What each position is asked to predict, int64."""
    credits_N_K: np.ndarray
    """The weight or the advantage of each target, float32; 0: it teaches nothing."""
    logprobs_N_K: np.ndarray
    """The sampler's log-probabilities of the targets, float32; zeros where the loss reads none."""

    @property
    def first_credit(self) -> int:
        """The first position that teaches something; N where none does."""
        taught = np.flatnonzero(self.credits_N_K.any(axis=1))
        return int(taught[0]) if len(taught) else len(self.token_ids)


@dataclass(frozen=True)
class DatumShare:
    """One rank's part of a request."""

    micro_batches: list[list[TrainingGroup]]
    """The id of a response is the place of its datum in the request."""
    datums: dict[int, Datum]


def shares_of(datums: Sequence[Datum], ranks: int, limits: MicroBatchLimits) -> list[DatumShare]:
    """Share the datums of a request out over ranks; a rank may get nothing.

    Raises:
        BudgetError: a datum is longer than the limit on positions.
    """
    groups = [part for group in grouped(datums, shared=limits.shared_prefix) for part in fitted(group, limits)]
    groups.sort(key=lambda group: len(group.prompt_ids) + group.tokens, reverse=True)
    mine: list[list[TrainingGroup]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for group in groups:
        rank = load.index(min(load))
        mine[rank].append(group)
        load[rank] += len(group.prompt_ids) + group.tokens
    return [DatumShare(cut(own, limits), {i: datums[i] for group in own for i in places_of(group)}) for own in mine]


def places_of(group: TrainingGroup) -> list[int]:
    """The places of a group's datums in the request."""
    return [int(response.id) for response in group.responses]


def grouped(datums: Sequence[Datum], *, shared: bool) -> list[TrainingGroup]:
    """Datums as groups; with `shared`, neighbours that begin alike are one group."""
    bundles: list[tuple[list[int], int]] = []
    for place, datum in enumerate(datums):
        if shared and bundles:
            members, prefix = bundles[-1]
            common = _common_prefix(datums[members[0]], datum, prefix)
            if common >= max(SHORTEST_PREFIX, datum.prompt):
                bundles[-1] = ([*members, place], common)
                continue
        bundles.append(([place], _longest_prefix(datum)))
    return [_group(datums, members, prefix) for members, prefix in bundles]


def _longest_prefix(datum: Datum) -> int:
    """How many positions may lie in a shared prompt: none behind the first that teaches, unless an image does."""
    return min(len(datum.token_ids), max(datum.prompt, datum.first_credit + 1))


def _common_prefix(first: Datum, other: Datum, prefix: int) -> int:
    """How many positions two datums have in common, up to `prefix`; 0 where their images differ."""
    if first.images != other.images or first.prompt != other.prompt:
        return 0
    longest = min(prefix, _longest_prefix(other))
    ours, theirs = np.asarray(first.token_ids[:longest]), np.asarray(other.token_ids[:longest])
    differing = np.flatnonzero(ours[: len(theirs)] != theirs[: len(ours)])
    return int(differing[0]) if len(differing) else min(len(ours), len(theirs))


def _group(datums: Sequence[Datum], members: Sequence[int], prefix: int) -> TrainingGroup:
    """The last token of each response only makes room for what the one before it predicts; nobody reads it."""
    first = datums[members[0]]
    responses = []
    for place in members:
        tail = (*datums[place].token_ids[prefix:], 0)
        zeros = (0.0,) * len(tail)
        responses.append(TrainingResponse(tail, zeros, zeros, str(place)))
    return TrainingGroup(first.images, first.token_ids[:prefix], tuple(responses))


@dataclass(frozen=True)
class Reading:
    """What one row of the log-probabilities (R, T) belongs to: column k of some datums, from position `first` on."""

    places: tuple[int, ...]
    column: int
    first: int
    length: int


def pack_datums(
    groups: Sequence[TrainingGroup],
    datums: dict[int, Datum],
    image_tensors: ImageTensors,
    *,
    pad_id: int,
    shared_prefix: bool,
    prompt_positions: PromptPositions = counted_positions,
) -> tuple[Batch, list[Reading]]:
    """Pack groups into one micro-batch whose rows are all targets of their datums, and say where each row belongs.

    Args:
        groups: as `grouped` made them.
        datums: by place.
        image_tensors, pad_id, shared_prefix, prompt_positions: as `policies.batch.pack`.
    """
    batch = pack(groups, image_tensors, pad_id=pad_id, shared_prefix=shared_prefix, prompt_positions=prompt_positions)
    length = batch.model_inputs["input_ids"].shape[1]
    sources: list[Tensor] = []
    readings: list[Reading] = []
    r = 0
    for g, group in enumerate(groups):
        places, prompt = places_of(group), len(group.prompt_ids)
        row = (g if shared_prefix else r) * length
        before = torch.arange(row, row + prompt - 1)
        together = len(places) > 1 and _same_prompt([datums[place] for place in places], prompt)
        for members in [places] if together else [[place] for place in places]:
            if prompt > 1:
                for k in range(datums[members[0]].targets_N_K.shape[1]):
                    readings.append(Reading(tuple(members), k, 0, prompt - 1))
                    sources.append(before)
        for place, response in zip(places, group.responses, strict=True):
            own = batch.source_R_T[r, : len(response.token_ids)]
            for k in range(datums[place].targets_N_K.shape[1]):
                readings.append(Reading((place,), k, prompt - 1, len(response.token_ids)))
                sources.append(own)
            r += 1
    rows: dict[str, Any] = _rows(sources, readings, datums)
    return replace(batch, **rows), readings


def _same_prompt(datums: Sequence[Datum], prompt: int) -> bool:
    """Whether datums ask the same of their common prompt, and learn nothing from it."""
    first = datums[0].targets_N_K[: prompt - 1]
    same = all(np.array_equal(first, datum.targets_N_K[: prompt - 1]) for datum in datums)
    return same and not any(datum.credits_N_K[: prompt - 1].any() for datum in datums)


def _rows(sources: list[Tensor], readings: list[Reading], datums: dict[int, Datum]) -> dict[str, Tensor]:
    width = max(reading.length for reading in readings)
    count = len(readings)
    source_R_T, token_ids_R_T = (torch.zeros(count, width, dtype=torch.long) for _ in range(2))
    mask_R_T, rollout_R_T, credits_R_T = (torch.zeros(count, width) for _ in range(3))
    for i, (source, reading) in enumerate(zip(sources, readings, strict=True)):
        datum, where = datums[reading.places[0]], slice(reading.first, reading.first + reading.length)
        source_R_T[i, : reading.length] = source
        token_ids_R_T[i, : reading.length] = torch.from_numpy(datum.targets_N_K[where, reading.column].copy())
        mask_R_T[i, : reading.length] = 1.0
        rollout_R_T[i, : reading.length] = torch.from_numpy(datum.logprobs_N_K[where, reading.column].copy())
        credits_R_T[i, : reading.length] = torch.from_numpy(datum.credits_N_K[where, reading.column].copy())
    return {
        "source_R_T": source_R_T,
        "token_ids_R_T": token_ids_R_T,
        "mask_R_T": mask_R_T,
        "real_N": mask_R_T.flatten().nonzero()[:, 0],
        "rollout_logprobs_R_T": rollout_R_T,
        "credits_R_T": credits_R_T,
    }


def unpack(logprobs_R_T: Tensor, readings: Sequence[Reading], into: dict[int, np.ndarray]) -> None:
    """Write each row's log-probabilities to where they belong in the (N, K) arrays of `into`."""
    values = logprobs_R_T.detach().float().cpu().numpy()
    for row, reading in zip(values, readings, strict=True):
        for place in reading.places:
            into[place][reading.first : reading.first + reading.length, reading.column] = row[: reading.length]
