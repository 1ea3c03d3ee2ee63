"""How groups are cut into micro-batches and shared out over learner ranks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.batch import TrainingGroup, TrainingResponse
from policies.errors import BudgetError
from policies.losses import GlobalCounts
from policies.micro_batches import MicroBatchLimits, cut, fitted, share_out, sharing


def group(number: int, prompt: int, lengths: list[int]) -> TrainingGroup:
    """A group whose prompt begins with its number, and whose responses' first ids count up."""
    responses = tuple(
        TrainingResponse((i, *(7,) * (length - 1)), (0.0,) * length, (1.0,) * length)
        for i, length in enumerate(lengths)
    )
    return TrainingGroup((), (number, *(1,) * (prompt - 1)), responses)


def positions(batch: list[TrainingGroup], *, shared: bool) -> int:
    """Counted apart from the code under test: rows times the longest."""
    rows = []
    for g in batch:
        lengths = [len(r.token_ids) for r in g.responses]
        rows += [len(g.prompt_ids) + sum(lengths)] if shared else [len(g.prompt_ids) + length for length in lengths]
    return len(rows) * max(rows)


GROUPS = st.lists(
    st.tuples(st.integers(1, 20), st.lists(st.integers(1, 9), min_size=1, max_size=5)), min_size=1, max_size=20
).map(lambda drawn: [group(i, prompt, lengths) for i, (prompt, lengths) in enumerate(drawn)])
LIMITS = st.builds(
    MicroBatchLimits, groups=st.integers(1, 5), tokens=st.none() | st.integers(29, 120), shared_prefix=st.booleans()
)


@given(GROUPS, st.integers(1, 4), LIMITS)
def test_ranks_get_equally_many_micro_batches_and_every_response_counts_once(
    groups: list[TrainingGroup], ranks: int, limits: MicroBatchLimits
) -> None:
    shares = share_out(groups, ranks, limits, response_cap=9)
    assert len({len(share.micro_batches) for share in shares}) == 1
    counted = [
        (part.prompt_ids[0], response.token_ids[0])
        for share in shares
        for batch in share.micro_batches[: len(share.micro_batches) - share.filler]
        for part in batch
        for response in part.responses
    ]
    given = [(g.prompt_ids[0], r.token_ids[0]) for g in groups for r in g.responses]
    assert sorted(counted) == sorted(given)
    assert [given[place] for share in shares for place in share.places] == counted
    assert {share.counts for share in shares} == {GlobalCounts(len(given), sum(g.tokens for g in groups), 9)}


@given(GROUPS, st.integers(1, 4), LIMITS)
def test_no_micro_batch_exceeds_its_limits(groups: list[TrainingGroup], ranks: int, limits: MicroBatchLimits) -> None:
    for share in share_out(groups, ranks, limits):
        for batch in share.micro_batches:
            assert 1 <= len(batch) <= limits.groups
            if limits.tokens is not None:
                assert positions(batch, shared=limits.shared_prefix) <= limits.tokens


def test_the_longest_groups_are_spread_over_the_ranks() -> None:
    groups = [group(i, prompt, [2]) for i, prompt in enumerate([100, 5, 5, 90, 5])]
    first, second = share_out(groups, 2, MicroBatchLimits(groups=8))
    loads = [sum(positions([g], shared=True) for b in share.micro_batches for g in b) for share in (first, second)]
    assert sorted(loads) == [92 + 7 + 7, 102 + 7]


def test_a_group_that_is_too_large_keeps_its_responses_in_order() -> None:
    parts = fitted(group(0, 10, [4, 4, 4, 4]), MicroBatchLimits(groups=1, tokens=20))
    assert [[r.token_ids[0] for r in part.responses] for part in parts] == [[0, 1], [2, 3]]
    assert [len(batch) for batch in cut(parts, MicroBatchLimits(groups=4, tokens=40))] == [2]


def test_a_response_that_no_micro_batch_holds_is_named_with_the_setting() -> None:
    with pytest.raises(BudgetError, match=r"10 tokens .*11 .*learner\.micro_batch_tokens=20"):
        fitted(group(0, 10, [11]), MicroBatchLimits(groups=1, tokens=20))


def test_it_is_counted_how_groups_share_their_prompts() -> None:
    def group(prompt: int, lengths: list[int]) -> TrainingGroup:
        responses = tuple(TrainingResponse((1,) * n, (0.0,) * n, (1.0,) * n) for n in lengths)
        return TrainingGroup((), (0,) * prompt, responses)

    groups = [group(10, [5, 5]), group(10, [20, 5, 5]), group(10, [20, 20])]
    assert sharing(groups, MicroBatchLimits(1, 32)) == {"groups/whole": 1, "groups/in_parts": 1, "groups/single": 1}
    assert sharing(groups, MicroBatchLimits(1, None)) == {"groups/whole": 3, "groups/in_parts": 0, "groups/single": 0}
    plain = MicroBatchLimits(1, None, shared_prefix=False)
    assert sharing(groups, plain) == {"groups/whole": 0, "groups/in_parts": 0, "groups/single": 3}
