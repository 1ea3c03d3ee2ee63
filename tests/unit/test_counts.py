"""What a pool counts, as the journal has it."""

from __future__ import annotations

from actors.scoring.judge_pool import JudgeCounts
from actors.supervision.care import Counts


def test_counts_stand_in_the_journal_under_their_names() -> None:
    counts = Counts(asked=3, retried=1, lost=2, restarted=1)
    counts.failed["timeout"] += 1
    plain = {"judge/asked": 3.0, "judge/retried": 1.0, "judge/lost": 2.0, "judge/restarted": 1.0, "judge/joined": 0.0}
    assert counts.metrics("judge") == plain | {"judge/failed/timeout": 1.0}


def test_a_pool_s_own_counts_stand_beside_those_of_every_pool() -> None:
    metrics = JudgeCounts(asked=2, cached=1).metrics("judge")
    assert (metrics["judge/asked"], metrics["judge/cached"], metrics["judge/judged"]) == (2.0, 1.0, 0.0)
