"""Whether an answer has the form that its question asks for, and whether that of a closed question is right."""

from __future__ import annotations

from data.coordinates import coordinate_pairs
from data.reading.rules import extract_option, extract_yes_no, option_of
from data.sample import DrivingSample
from rewards.answer import answer_part


def valid_format(sample: DrivingSample, text: str) -> bool:
    """Whether a response can be read as an answer of its question's kind.

    Multiple choice needs one option letter, yes/no a verdict (yes, true, no, false), coordinates and structured at
    least one coordinate pair, open-ended any text. Read is the answer part of the response.
    """
    answer = answer_part(text)
    if sample.kind == "multiple_choice":
        return extract_option(answer, sample.choices) is not None
    if sample.kind == "yes_no":
        return extract_yes_no(answer) is not None
    if sample.kind in ("coordinates", "structured"):
        return bool(coordinate_pairs(answer))
    return bool(answer)


def is_right(sample: DrivingSample, text: str) -> bool:
    """Whether a response to a closed question says what the ground truth says, by rule, whatever its reward is.

    Raises:
        ValueError: the question is not closed (multiple choice or yes/no).
    """
    answer = answer_part(text)
    if sample.kind == "multiple_choice":
        return option_of(answer, sample.choices) == sample.answer
    if sample.kind == "yes_no":
        verdict = extract_yes_no(answer)
        return verdict is not None and verdict == extract_yes_no(sample.answer)
    raise ValueError(f"{sample.id} is {sample.kind}, so no rule says whether an answer is right")
