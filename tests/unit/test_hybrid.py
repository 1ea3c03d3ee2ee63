from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample import KINDS, DrivingSample, Kind
from rewards.coordinates import hybrid_coordinate_f1
from rewards.hybrid import has_hybrid, hybrid
from rewards.text import bleu, rouge_l

CHOICES = {"A": "Going ahead.", "B": "Turn left."}
TRUE: dict[Kind, str] = {
    "multiple_choice": "B",
    "yes_no": "No.",
    "coordinates": "<c1,CAM_FRONT,100.0,200.0>, <c2,CAM_FRONT,500.0,600.0>",
    "structured": "There is a brown car to the front of the ego vehicle at <c1,CAM_FRONT,100.0,200.0>.",
}


def sample(kind: Kind, answer: str) -> DrivingSample:
    choices = CHOICES if kind == "multiple_choice" else {}
    return DrivingSample("s", "s", "f", "perception", kind, "What?", answer, {}, choices)


@pytest.mark.parametrize(("kind", "answer"), TRUE.items())
def test_the_truth_is_worth_100_in_every_kind_but_the_judges(kind: Kind, answer: str) -> None:
    assert hybrid(sample(kind, answer), answer).value == pytest.approx(100)
    assert hybrid(sample(kind, answer), f"<think>No. A.</think><answer>{answer}</answer>").value == pytest.approx(100)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("multiple_choice", "The answer is B.", 100),
        ("multiple_choice", "Turn left.", 100),
        ("multiple_choice", "A or B", 0),
        ("yes_no", "No, nothing is there.", 100),
        ("yes_no", "Yes.", 0),
        ("yes_no", "Perhaps.", 0),
    ],
)
def test_a_classification_is_right_or_wrong(kind: Kind, text: str, value: float) -> None:
    score = hybrid(sample(kind, TRUE[kind]), text)
    assert score.value == value
    assert score.parts == {"exact_match": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500.0, 600.0, 100.0, 200.0", 100),
        ("(115.9, 215.9), (500.0, 600.0)", 100),
        ("(116.0, 200.0), (500.0, 600.0)", 50),
        ("(115.9, 215.9)", 200 / 3),
        ("nothing", 0),
    ],
)
def test_coordinates_are_worth_the_f1_of_pairs_nearer_than_16_px_on_each_axis(text: str, value: float) -> None:
    score = hybrid(sample("coordinates", TRUE["coordinates"]), text)
    assert score.value == pytest.approx(value)
    assert set(score.parts) == {"coordinate_f1"}


def test_a_structured_answer_is_scored_on_its_words_and_its_coordinates_apart() -> None:
    truth = TRUE["structured"]
    text = "There is a white car to the front of the ego vehicle at <c1,CAM_FRONT,300.0,200.0>."
    score = hybrid(sample("structured", truth), text)
    words = "There is a white car to the front of the ego vehicle at ."
    true_words = "There is a brown car to the front of the ego vehicle at ."
    assert score.parts == {
        "coordinate_f1": hybrid_coordinate_f1(text, truth),
        "bleu": bleu(words, true_words),
        "rouge_l": rouge_l(words, true_words),
    }
    assert score.parts["coordinate_f1"] == 0
    assert score.value == pytest.approx(0.25 * score.parts["bleu"] + 0.25 * score.parts["rouge_l"])


def test_a_structured_answer_without_words_or_without_coordinates_is_scored_on_the_other() -> None:
    bare = sample("structured", "<c1,CAM_FRONT,100.0,200.0>")
    assert hybrid(bare, bare.answer).parts == {"coordinate_f1": 100}
    assert hybrid(bare, "a car").value == 0
    words = sample("structured", "Nothing is there.")
    assert set(hybrid(words, "Nothing is there.").parts) == {"bleu", "rouge_l"}
    assert hybrid(words, "Nothing is there.").value == pytest.approx(100)


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("open_ended", "Slow down."),
        ("multiple_choice", "C"),
        ("yes_no", "Perhaps."),
        ("coordinates", "nowhere"),
        ("structured", " "),
    ],
)
def test_what_the_metrics_cannot_score_is_refused_by_name(kind: Kind, answer: str) -> None:
    assert not has_hybrid(sample(kind, answer))
    with pytest.raises(ValueError, match=f"sample s: .* {kind} with the answer .*route it to the judge"):
        hybrid(sample(kind, answer), "text")


@given(st.sampled_from(KINDS), st.text(max_size=40), st.text(max_size=40))
def test_any_response_has_a_score_from_0_to_100_or_its_sample_is_refused(kind: Kind, answer: str, text: str) -> None:
    if has_hybrid(sample(kind, answer)):
        assert 0 <= hybrid(sample(kind, answer), text).value <= 100
