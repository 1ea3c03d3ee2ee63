"""Questions that cannot be asked any more: left out from then on, listed, bounded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.quarantine import Quarantine, list_faults
from data.rollout import Refusal
from data.sample import DrivingSample
from data.split import TaskBalancedOrder
from failures import TooManyRefused

SAMPLES = [
    DrivingSample(f"q{number}", f"scene{number}", "f", "behavior", "open_ended", "What now?", "Go.", {})
    for number in range(8)
]


def refusal(sample_id: str) -> Refusal:
    return Refusal("r", sample_id, f"engine 0 refuses sample {sample_id}: image /cut.jpg is truncated")


def quarantine(folder: Path, share: float = 0.5) -> tuple[Quarantine, list[str]]:
    said: list[str] = []
    return Quarantine(folder, len(SAMPLES), share, said.append), said


def test_a_question_is_listed_and_reported_once_and_never_drawn_again(tmp_path: Path) -> None:
    list_faults(tmp_path, {"empty_answer": ["other"]})
    kept, said = quarantine(tmp_path)
    for _ in range(3):
        kept.take(refusal("q2"))
    assert said == [f"left out from now on: {refusal('q2').why}"]
    assert json.loads((tmp_path / "data_faults.json").read_text()) == {"empty_answer": ["other"], "refused": ["q2"]}
    order = TaskBalancedOrder(SAMPLES, {"behavior": 1.0}, seed=0)
    drawn = kept.draw(order, 14)
    assert len(drawn) == 14
    assert "q2" not in {sample.id for sample in drawn}
    assert order.position == 16  # two passes: the place of a run that goes on counts it
    assert [sample.id for sample in kept.without(SAMPLES)] == ["q0", "q1", "q3", "q4", "q5", "q6", "q7"]


def test_a_resumed_run_goes_on_without_it(tmp_path: Path) -> None:
    first, _ = quarantine(tmp_path)
    first.take(refusal("q3"))
    list_faults(tmp_path, {"empty_answer": ["other"]})  # as the data is read again
    again, said = quarantine(tmp_path)
    assert list(again.ids) == ["q3"]
    again.take(refusal("q3"))
    assert said == []


def test_above_the_share_the_run_stops_with_the_latest_reason(tmp_path: Path) -> None:
    kept, _ = quarantine(tmp_path, share=0.25)
    kept.take(refusal("q0"))
    kept.take(refusal("q1"))
    with pytest.raises(TooManyRefused, match=r"3 of 8 questions .* data\.max_refused_share=0\.25; the latest: .*q2"):
        kept.take(refusal("q2"))
    assert json.loads((tmp_path / "data_faults.json").read_text())["refused"] == ["q0", "q1", "q2"]
