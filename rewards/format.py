"""Whether an answer has the form that its question asks for, right or wrong. Pure text."""

from __future__ import annotations

from data.coordinates import coordinate_pairs
from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.rules import extract_option, extract_yes_no


def valid_format(sample: DrivingSample, text: str) -> bool:
    """Whether a response can be read as an answer of its question's kind.

    Multiple choice needs one option letter, yes/no a yes or no, coordinates and structured at least one coordinate
    pair, open-ended any text. Read is the answer part of the response.
    """
    answer = answer_part(text)
    if sample.kind == "multiple_choice":
        return extract_option(answer, sample.choices) is not None
    if sample.kind == "yes_no":
        return extract_yes_no(answer) is not None
    if sample.kind in ("coordinates", "structured"):
        return bool(coordinate_pairs(answer))
    return bool(answer)
