"""What the driver does with what learners tell."""

from collections.abc import Sequence

from actors.learning.group import LearnerGroup, with_old_logprobs
from policies.batch import TrainingGroup, TrainingResponse


def groups(count: int) -> list[TrainingGroup]:
    return [TrainingGroup((), (i,), (TrainingResponse((1, 2), (0.0, 0.0), (1.0, 1.0)),)) for i in range(count)]


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
