"""Micro-batches: which groups share a forward and backward pass, and which learner rank takes them. Pure.

A pass costs memory by its *positions*: rows times the longest row. The loss divides by counts of the global batch, so
neither the cutting nor the sharing out changes the gradient; only time and memory depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policies.batch import TrainingGroup
from policies.errors import BudgetError
from policies.losses import GlobalCounts


@dataclass(frozen=True, slots=True)
class MicroBatchLimits:
    """What one forward and backward pass may hold."""

    groups: int
    """Most groups."""
    tokens: int | None = None
    """Most positions, padding included; None: no bound."""
    shared_prefix: bool = True
    """Whether a group is one row, or each response one (see `policies/batch.py`)."""


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of a batch; all ranks have equally many micro-batches."""

    micro_batches: list[list[TrainingGroup]]
    counts: GlobalCounts
    """What the whole batch holds, over all ranks."""
    filler: int = 0
    """How many of the last ones only keep this rank in step: they are computed but add no gradient."""
    places: tuple[int, ...] = ()
    """For each response, filler left out, the place that it had among all responses of the batch."""


def share_out(
    groups: Sequence[TrainingGroup], ranks: int, limits: MicroBatchLimits, response_cap: int = 0
) -> list[Share]:
    """Share groups out over ranks, each rank's part cut into micro-batches.

    The longest groups come first and go to the rank with the least to do, so that ranks finish together and rows of
    like length meet. Every rank gets equally many micro-batches, because a collective that one rank skips hangs the
    others; a rank with fewer repeats the cheapest group as filler.

    Args:
        groups: the batch.
        ranks: how many there are.
        limits: what a micro-batch may hold.
        response_cap: most tokens a response may have, for the counts.

    Raises:
        BudgetError: a prompt with one response exceeds the token limit.
    """
    counts = GlobalCounts(
        responses=sum(len(group.responses) for group in groups),
        tokens=sum(group.tokens for group in groups),
        response_cap=response_cap,
    )
    fitting, first = list[tuple[int, TrainingGroup]](), 0
    for group in groups:
        for part in fitted(group, limits):
            fitting.append((first, part))
            first += len(part.responses)
    fitting.sort(key=lambda placed: _positions([placed[1]], limits), reverse=True)
    mine: list[list[TrainingGroup]] = [[] for _ in range(ranks)]
    places: list[list[int]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    for first, group in fitting:
        rank = load.index(min(load))
        mine[rank].append(group)
        places[rank] += range(first, first + len(group.responses))
        load[rank] += _positions([group], limits)
    cheapest, shares = fitting[-1][1], [cut(own, limits) for own in mine]
    most = max(map(len, shares))
    return [
        Share(own + [[cheapest]] * (most - len(own)), counts, most - len(own), tuple(where))
        for own, where in zip(shares, places, strict=True)
    ]


def cut(groups: Sequence[TrainingGroup], limits: MicroBatchLimits) -> list[list[TrainingGroup]]:
    """Micro-batches of neighbouring groups, in order; a group that is too large alone is a micro-batch of its own."""
    batches: list[list[TrainingGroup]] = []
    for group in groups:
        last = batches[-1] if batches else None
        full = last is None or len(last) == limits.groups
        if last is None or full or not _fits([*last, group], limits):
            batches.append([group])
        else:
            last.append(group)
    return batches


def fitted(group: TrainingGroup, limits: MicroBatchLimits) -> list[TrainingGroup]:
    """The group, or parts of it with some of its responses each, so that each part keeps to the token limit.

    Raises:
        BudgetError: the prompt with one response exceeds it.
    """
    parts: list[TrainingGroup] = []
    for response in group.responses:
        if parts and _fits([grown := replace(parts[-1], responses=(*parts[-1].responses, response))], limits):
            parts[-1] = grown
            continue
        alone = replace(group, responses=(response,))
        if not _fits([alone], limits):
            raise BudgetError(
                f"a prompt of {len(group.prompt_ids)} tokens with a response of {len(response.token_ids)} exceeds "
                f"learner.micro_batch_tokens={limits.tokens}: raise it, or lower rollout.max_tokens"
            )
        parts.append(alone)
    return parts


def sharing(groups: Sequence[TrainingGroup], limits: MicroBatchLimits) -> dict[str, float]:
    """How many groups go through the model whole, in parts, or response by response.

    A part has its prompt once. Attention computes the pairs that are seen and no others (`policies.attention`), so
    larger parts never cost more, and the limit of positions alone decides.
    """
    parts = [len(fitted(group, limits)) if limits.shared_prefix else len(group.responses) for group in groups]
    of_groups = list(zip(parts, groups, strict=True))
    whole = sum(limits.shared_prefix and count == 1 for count, _ in of_groups)
    single = sum(count == len(group.responses) and count > 1 for count, group in of_groups)
    single += 0 if limits.shared_prefix else sum(count == 1 for count in parts)
    return {
        "groups/whole": float(whole),
        "groups/in_parts": float(len(parts) - whole - single),
        "groups/single": float(single),
    }


def _fits(groups: Sequence[TrainingGroup], limits: MicroBatchLimits) -> bool:
    return limits.tokens is None or _positions(groups, limits) <= limits.tokens


def _positions(groups: Sequence[TrainingGroup], limits: MicroBatchLimits) -> int:
    """Positions of the packed groups, padding included."""
    if limits.shared_prefix:
        rows = [len(group.prompt_ids) + group.tokens for group in groups]
    else:
        rows = [len(group.prompt_ids) + len(response.token_ids) for group in groups for response in group.responses]
    return len(rows) * max(rows)
