from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.text import bleu, rouge_l

TRUTH = "The action is to keep going at the same speed. The reason is to follow the traffic rules."


@pytest.mark.parametrize("text", ["Moving.", "Yes.", TRUTH])
def test_the_truth_scores_100(text: str) -> None:
    assert bleu(text, text) == pytest.approx(100.0)
    assert rouge_l(text, text) == pytest.approx(100.0)


def test_a_text_with_no_word_in_common_scores_0_in_rouge_and_next_to_0_in_bleu() -> None:
    assert rouge_l("brown pedestrian ahead", TRUTH) == 0.0
    assert bleu("brown pedestrian ahead", TRUTH) < 5.0


def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence() -> None:
    # Common: "the car is moving" (4 of 5 words, 4 of 4): P = 0.8, R = 1.
    assert rouge_l("the red car is moving", "The car is moving.") == pytest.approx(100 * 2 * 0.8 / 1.8)


def test_a_closer_text_scores_higher() -> None:
    far, near = "Keep going.", "The action is to keep going at the same speed."
    assert bleu(far, TRUTH) < bleu(near, TRUTH) < 100
    assert rouge_l(far, TRUTH) < rouge_l(near, TRUTH) < 100


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=60)
def test_text_scores_lie_in_0_and_100_for_any_text(text: str, truth: str) -> None:
    assert 0.0 <= bleu(text, truth) <= 100.0
    assert 0.0 <= rouge_l(text, truth) <= 100.0


@pytest.mark.slow
def test_scoring_loads_neither_torch_nor_ray() -> None:
    scored = "import rewards.route, sys; from rewards.text import bleu, rouge_l; bleu('a', 'a'); rouge_l('a', 'a')"
    check = f"{scored}; sys.exit(bool({{'torch', 'ray', 'transformers'}} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", check], cwd=root, timeout=600).returncode == 0
