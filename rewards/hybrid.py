"""The hybrid reward of AutoDriveRL's Appendix J: the metric that fits a question's kind. Pure text.

The paper tried it and kept the judge: scales differ between kinds, and training was less stable. It is here to compare.
"""

from __future__ import annotations

from data.coordinates import coordinate_pairs, without_coordinates
from data.reading.rules import extract_yes_no, option_of
from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.coordinates import hybrid_coordinate_f1
from rewards.score import Score
from rewards.text import bleu, rouge_l

STRUCTURED_WEIGHTS = {"coordinate_f1": 0.5, "bleu": 0.25, "rouge_l": 0.25}
"""Of a structured answer: the paper scores text and coordinates apart without weights, so half and half is ours."""


def hybrid(sample: DrivingSample, text: str) -> Score:
    """The hybrid reward of a response, 0-100, with its parts; read is the answer part.

    Multiple choice and yes/no: right or wrong (100 or 0), an unclear answer is wrong. Coordinates: F1 of the pairs with
    both coordinates within 16 px. Structured: that F1 over the coordinates, BLEU and ROUGE_L over the words without
    them, by `STRUCTURED_WEIGHTS`; when the true answer has no words, or no coordinates, the other alone.

    Raises:
        ValueError: the question is open-ended, which Appendix J gives to a judge, or its answer is not of its kind
            (see `has_hybrid`).
    """
    if not has_hybrid(sample):
        raise ValueError(
            f"sample {sample.id}: the hybrid reward has no metric for a question that is {sample.kind} with the answer "
            f"{sample.answer!r}; route it to the judge"
        )
    answer = answer_part(text)
    if sample.kind == "coordinates":
        figure = hybrid_coordinate_f1(answer, sample.answer)
        return Score(figure, {"coordinate_f1": figure})
    if sample.kind == "structured":
        return _structured(answer, sample.answer)
    right = 100.0 * _right(sample, answer)
    return Score(right, {"exact_match": right})


def has_hybrid(sample: DrivingSample) -> bool:
    """Whether a sample can be scored by `hybrid`: every kind but open-ended, given an answer of its kind."""
    match sample.kind:
        case "multiple_choice":
            return sample.answer in sample.choices
        case "yes_no":
            return extract_yes_no(sample.answer) is not None
        case "coordinates":
            return bool(coordinate_pairs(sample.answer))
        case "structured":
            return bool(sample.answer.strip())
        case "open_ended":
            return False


def _right(sample: DrivingSample, answer: str) -> bool:
    if sample.kind == "multiple_choice":
        return option_of(answer, sample.choices) == sample.answer
    return extract_yes_no(answer) == extract_yes_no(sample.answer)


def _structured(answer: str, truth: str) -> Score:
    parts: dict[str, float] = {}
    if coordinate_pairs(truth):
        parts["coordinate_f1"] = hybrid_coordinate_f1(answer, truth)
    words, true_words = without_coordinates(answer), without_coordinates(truth)
    if true_words:
        parts |= {"bleu": bleu(words, true_words), "rouge_l": rouge_l(words, true_words)}
    weights = sum(STRUCTURED_WEIGHTS[name] for name in parts)
    value = sum(STRUCTURED_WEIGHTS[name] * part for name, part in parts.items()) / weights
    return Score(min(100.0, value), parts)
