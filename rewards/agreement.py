"""BDD-OIA's R2 in the paper's BLEU form: does the action-reason pair agree with the reference? Pure text.

The other form, a judge, is a rubric. This one is kept because the paper's figures come from it; it reads surface only:
"Move forward. Traffic light is red." against "... green." has BLEU-4 0.76 and so counts as agreeing.
"""

from __future__ import annotations

import re

from data.reading.words import folded
from data.sample import DrivingSample
from rewards.answer import answer_part
from rewards.json_answer import json_answer
from rewards.score import Score
from rewards.text import bleu

AGREES_FROM = 50.0
"""BLEU-4 (0-100) from which a pair counts as agreeing: the paper's threshold of 0.5."""

_LABELLED = re.compile(
    r"\baction[\s*_]*:(?P<action>(?:(?!\baction[\s*_]*:).)*?)\b(?:reason|justification|explanation)[\s*_]*:(?P<reason>.*)",
    re.DOTALL | re.IGNORECASE,
)


def agreement(sample: DrivingSample, text: str) -> Score:
    """R2 of a response: 100 when its pair has BLEU-4 >= 0.5 against the sample's answer, else 0.

    The part `bleu4` (0-100) is the figure that was compared. BLEU is `rewards.text.bleu`, sacrebleu's sentence BLEU:
    a pair of fewer than four tokens is compared on the n-grams it has (effective order), so that "Stop." agrees with
    "Stop."; orders without a match are smoothed, and the brevity penalty keeps a fragment of the reference below.
    """
    figure = bleu(pair_text(text), pair_text(sample.answer))
    return Score(100.0 if figure >= AGREES_FROM else 0.0, {"bleu4": figure})


def pair_text(text: str) -> str:
    """Action and reason one after the other, in lower case, without labels, full stops at their ends or brackets.

    Read from a JSON object with `action` and `justification`, else from "Action: ...; Reason: ...", else the whole
    answer is the pair. Labels are left out since every pair shares them: they would lift any two pairs' BLEU. An object
    with neither field is an empty pair, which agrees with nothing.
    """
    found = json_answer(text)
    if found is not None:
        action, reason = (found[0].get(name, "") for name in ("action", "justification"))
        words = [*(action if isinstance(action, list) else [action]), reason]
        return _joined([word for word in words if isinstance(word, str)])
    answer = folded(answer_part(text))
    labelled = _LABELLED.search(answer)
    return _joined([labelled["action"], labelled["reason"]] if labelled else [answer])


def _joined(texts: list[str]) -> str:
    return " ".join(part for part in map(_plain, texts) if part)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .;,<>⟨⟩\"'*_")
