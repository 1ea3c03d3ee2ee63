"""What a reward of a user's may return, and what becomes of it."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch

from rewards.returned import as_score, seem_fractions
from rewards.score import Increment, Score


@pytest.mark.parametrize("value", [80, 80.0, np.float32(80), np.int64(80), np.array(80.0), torch.tensor(80.0)])
def test_every_kind_of_number_becomes_a_float(value: Any) -> None:
    for returned in (value, Score(value, {"n": value, "said_nothing": None, "flag": np.bool_(True)})):  # type: ignore[dict-item]
        score = as_score("mine:f", returned)
        assert (type(score.value), score.value, score.failure) == (float, 80.0, None)
        assert json.loads(json.dumps(score.parts)) == ({"n": 80.0, "flag": 1.0} if score.parts else {})


def test_a_score_without_parts_has_none() -> None:
    assert as_score("mine:f", Score(80.0, None)) == Score(80.0)  # type: ignore[arg-type]


def test_increments_become_plain_numbers() -> None:
    score = as_score("mine:f", Score(50.0, increments=(Increment(np.float32(-2.5), np.int64(7)),)))  # type: ignore[arg-type]
    assert score.increments is not None
    assert [(astuple(one), type(one.gain), type(one.end)) for one in score.increments] == [((-2.5, 7), float, int)]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (True, "returned True, not a number from 0 to 100"),
        (np.bool_(True), "True"),
        ("80", "returned '80', not a number from 0 to 100"),
        (None, "returned None"),
        ([80.0], r"returned \[80.0\]"),
        (np.array([80.0, 20.0]), "not a number from 0 to 100"),
        ({"score": 80}, "not a number from 0 to 100"),
        (np.float32("nan"), "nan"),
        (100.5, "returned 100.5"),
        (Score(True), "returned the value True"),
        (Score(5.0, {"n": "many"}), "returned the part n as 'many', not a number"),  # type: ignore[dict-item]
        (Score(5.0, [("n", 3.0)]), "returned parts that are no mapping"),  # type: ignore[arg-type]
        (Score(5.0, {"n": float("nan")}), "returned the part n as nan, not a number"),
        (Score(5.0, increments=(Increment("a", 3),)), "not a gain and where its span ends"),  # type: ignore[arg-type]
        (Score(5.0, failure="no frame"), "no frame"),
    ],
)
def test_whatever_is_no_number_is_a_failure_that_says_what_was_returned(returned: Any, said: str) -> None:
    score = as_score("mine:f", returned)
    assert (score.value, score.parts) == (0.0, {})
    with pytest.raises(AssertionError, match=f"^mine:f: .*{said}"):
        raise AssertionError(score.failure)


def test_a_batch_of_fractions_is_distinguished_from_scores_and_from_noughts() -> None:
    batch = [
        {"mine:fraction": 0.4, "mine:score": 40.0, "mine:nought": 0.0, "mine:score/share": 0.5, "rouge_l": 0.5},
        {"mine:fraction": 1.0, "mine:score": 1.0, "mine:nought": 0.0, "mine:score/share": 0.5, "failed_mine:x": 1.0},
    ]
    assert seem_fractions(batch) == ["mine:fraction"]
