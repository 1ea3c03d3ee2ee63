from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from evaluation.metrics.language import language_scores, rouge_l

WORDS = st.lists(st.sampled_from(["the", "car", "van", "is", "to", "left", "of", "ego"]), max_size=12).map(" ".join)


def reference_scores(answers: list[str], references: list[str]) -> list[float]:
    """pycocoevalcap's own figures; the words above are their own tokens."""
    truths = {index: [text] for index, text in enumerate(references)}
    found = {index: [text] for index, text in enumerate(answers)}
    bleu, _ = Bleu(4).compute_score(truths, found, verbose=0)
    return [*bleu, Rouge().compute_score(truths, found)[0], Cider().compute_score(truths, found)[0]]


@given(st.lists(st.tuples(WORDS, WORDS | st.just("the car is left of the van")), min_size=1, max_size=8))
@settings(max_examples=150)
def test_figures_are_pycocoevalcaps_to_1e_9(pairs: list[tuple[str, str]]) -> None:
    answers, references = [a for a, _ in pairs], [b or "ego" for _, b in pairs]
    scores = language_scores(answers, references)
    ours = [*scores.bleu, scores.rouge_l, scores.cider]
    assert ours == pytest.approx(reference_scores(answers, references), abs=1e-9)


def test_the_truth_is_worth_1_and_10_in_cider() -> None:
    texts = ["The car is near to the left of us.", "A white van stops at the red light."]
    scores = language_scores(texts, texts)
    assert [*scores.bleu, scores.rouge_l] == pytest.approx([1.0] * 5)
    assert scores.cider == pytest.approx(10.0)


def test_rouge_l_weighs_recall_by_beta_1_2() -> None:
    # common: "the car is moving" of 5 and of 4 words
    assert rouge_l("the red car is moving", "the car is moving") == pytest.approx(2.44 * 0.8 / (1 + 1.44 * 0.8))


def test_empty_answers_and_references_are_scored_without_a_crash() -> None:
    scores = language_scores(["", "a car", "..."], ["a car", "", "."])
    assert scores.rouge_l == pytest.approx(1 / 3)  # nothing against nothing is 1 in the reference implementation
    assert scores.bleu[0] < 1e-6


@pytest.mark.parametrize(("answers", "references"), [([], []), (["a"], []), (["a"], ["a", "b"])])
def test_no_pairs_are_refused(answers: list[str], references: list[str]) -> None:
    with pytest.raises(ValueError, match="language scores need pairs"):
        language_scores(answers, references)
