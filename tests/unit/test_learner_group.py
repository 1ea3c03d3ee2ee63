"""How groups are shared out over learner ranks."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from actors.learner_group import LearnerGroup, share_out, with_old_logprobs
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


class Knowing(LearnerGroup):
    def __init__(self) -> None:
        self.asked = 0

    async def log_probs(
        self, groups: Sequence[TrainingGroup], temperature: float | None = None, *, reference: bool = False
    ) -> list[list[float]]:
        self.asked += 1
        return [[-1.0, -2.0], [-3.0, -4.0]]


async def test_old_log_probabilities_are_given_to_the_responses_in_order_and_asked_once() -> None:
    learners = Knowing()
    first, second = known = await with_old_logprobs(groups(2), learners)
    assert first.responses[0].old_logprobs == (-1.0, -2.0)
    assert second.responses[0].old_logprobs == (-3.0, -4.0)
    assert await with_old_logprobs(known, learners) == known
    assert learners.asked == 1
