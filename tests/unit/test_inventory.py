from __future__ import annotations

from data.inventory import inventory_of
from data.sample import DrivingSample


def sample(number: int) -> DrivingSample:
    return DrivingSample(str(number), "s", "f", "planning", "open_ended", "Why?", "So.", {})


def test_the_quantiles_of_the_prompts_lengths_are_those_of_all_samples() -> None:
    found = inventory_of(map(sample, range(1, 91)), lambda item: int(item.id))
    assert (found.samples, found.prompt_tokens.total()) == (90, 90)
    assert (found.quantile(0.5), found.quantile(0.95), found.quantile(1.0)) == (45, 86, 90)


def test_the_table_has_a_row_for_each_task_that_occurs() -> None:
    assert inventory_of([sample(1)]).table() == [("planning", "0", "0", "1", "0", "0", "1")]
