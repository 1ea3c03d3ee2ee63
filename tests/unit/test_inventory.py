from __future__ import annotations

from data.faults import Faults
from data.inventory import inventory_of
from data.sample import DrivingSample


def sample(number: int) -> DrivingSample:
    return DrivingSample(str(number), "s", "f", "planning", "open_ended", "Why?", "So.", {})


def test_prompts_that_fill_the_context_are_listed_and_not_counted() -> None:
    faults = Faults()
    found = inventory_of(map(sample, range(1, 101)), faults, lambda item: int(item.id), context=91)
    assert (found.samples, found.prompt_tokens.total()) == (90, 90)
    assert faults.dropped == {"prompt_longer_than_context": [str(number) for number in range(91, 101)]}
    assert (found.quantile(0.5), found.quantile(0.95), found.quantile(1.0)) == (45, 86, 90)


def test_the_table_has_a_row_for_each_task_that_occurs() -> None:
    assert inventory_of([sample(1)], Faults()).table() == [("planning", "0", "0", "1", "0", "0", "1")]
