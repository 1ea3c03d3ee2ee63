"""How groups are shared out over learner ranks."""

from hypothesis import given
from hypothesis import strategies as st

from actors.learner_group import share_out, with_old_logprobs
from policies.batch import TrainingGroup, TrainingResponse


def groups(count: int) -> list[TrainingGroup]:
    return [TrainingGroup((), (i,), (TrainingResponse((1, 2), (0.0, 0.0), (1.0, 1.0)),)) for i in range(count)]


@given(st.integers(1, 30), st.integers(1, 4), st.integers(1, 5))
def test_every_rank_gets_equally_many_micro_batches_and_every_group_counts_once(
    count: int, ranks: int, size: int
) -> None:
    shares = share_out(groups(count), ranks, size)
    assert len({len(batches) for batches, _ in shares}) == 1
    counted = [
        g.prompt_ids[0] for batches, filler in shares for batch in batches[: len(batches) - filler] for g in batch
    ]
    assert sorted(counted) == list(range(count))
    assert all(1 <= len(batch) <= size for batches, _ in shares for batch in batches)


def test_old_log_probabilities_are_given_to_the_responses_in_order() -> None:
    first, second = with_old_logprobs(groups(2), [[-1.0, -2.0], [-3.0, -4.0]])
    assert first.responses[0].old_logprobs == (-1.0, -2.0)
    assert second.responses[0].old_logprobs == (-3.0, -4.0)
