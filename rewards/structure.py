"""BDD-OIA's R3, structure: is a response one JSON object of description, action and justification that fit together?

Pure text. Right or wrong is not asked here (R1 and R2 do): an answer is compared with itself and with the data set's
words, never with the ground truth. The seed leaves the form of R3 open; weights and limits below are ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator

from data.formats.bdd_oia_words import Action, action_of, actions_in, objects_in, reasons_in
from data.reading.words import words
from data.sample import DrivingSample
from rewards.json_answer import json_answer
from rewards.score import Score

FIELDS = ("description", "action", "justification")

_TEXT = {"type": "string", "pattern": r"\w"}
STRUCTURE_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {
        "description": _TEXT,
        "action": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": 3}]},
        "justification": _TEXT,
    },
    "required": list(FIELDS),
    "additionalProperties": False,
}
"""What a response must satisfy. Several actions (BDD-OIA has several labels to a scene) stand in a list."""

WEIGHTS = {"syntax": 10.0, "completeness": 20.0, "vocabulary": 30.0, "consistency": 40.0}
"""Points of each part, out of 100. What is easiest to fake counts least."""

MIN_OWN_WORDS = 3
"""A description, or a justification that names no known reason, needs this many words that no other field has."""
MAX_REASONS = 4
"""More of the 21 reasons than this in one field is a list of the vocabulary, not an answer."""
MAX_OBJECTS = 7
"""More of the 10 kinds of objects than this in one field, likewise."""

_VALIDATOR = Draft202012Validator(STRUCTURE_SCHEMA)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the three fields say; one that says nothing of its own is empty here."""

    description: str
    actions: frozenset[Action]
    justification: str

    @property
    def filled(self) -> int:
        return sum(map(bool, (self.description, self.actions, self.justification)))


def structure(sample: DrivingSample, text: str) -> Score:
    """R3 of a response, 0-100, with its parts (each 0-100): `syntax`, `completeness`, `vocabulary`, `consistency`.

    The value is their mean by `WEIGHTS`. The object is read by the rule of `rewards.json_answer`.

    - syntax: full for one object alone (or in one code fence); half is lost for text around it, half for keys that
      were not asked for. Nothing when no field says anything.
    - completeness: the share of the three fields that say something of their own. Not counted are a field that fails
      its schema, an action that is no known one (or forward and stop at once), a field that repeats another one, a
      description copied out of the question, and a field that lists the vocabulary.
    - vocabulary: the share of fields that count and use the data set's words: a known action, a known reason in the
      justification, a known object in the description.
    - consistency: 0 when the justification says to take another action, or names a reason that rules the action out;
      else the share of its reasons that support the action, times the share of the actions that have a reason.
      Reasons why some other action is ruled out are neither for nor against.
    """
    found = json_answer(text)
    if found is None:
        return Score(0.0, dict.fromkeys(WEIGHTS, 0.0))
    fields, alone = found
    answer, unasked = _read(fields, sample.question)
    parts = {
        "syntax": 100.0 * (1.0 - 0.5 * (not alone) - 0.5 * unasked) if answer.filled else 0.0,
        "completeness": 100.0 * answer.filled / len(FIELDS),
        "vocabulary": 100.0 * _vocabulary(answer) / len(FIELDS),
        "consistency": 100.0 * _consistency(answer),
    }
    value = sum(WEIGHTS[name] * part for name, part in parts.items()) / sum(WEIGHTS.values())
    return Score(min(100.0, value), parts)


def _read(fields: dict[str, Any], question: str) -> tuple[_Answer, bool]:
    """What the fields say, and whether there are keys that were not asked for."""
    errors = list(_VALIDATOR.iter_errors(fields))
    faulty = {error.absolute_path[0] for error in errors if error.absolute_path}
    valid = {name: fields[name] for name in FIELDS if name in fields and name not in faulty}
    description, justification = valid.get("description", ""), valid.get("justification", "")
    named = valid.get("action", [])
    action_texts = [named] if isinstance(named, str) else named
    taken = _words(" ".join(action_texts)) | set(FIELDS)
    answer = _Answer(
        description if _describes(description, taken | _words(justification), question) else "",
        _known_actions(action_texts),
        justification if _justifies(justification, taken) else "",
    )
    return answer, any(error.validator == "additionalProperties" for error in errors)


def _known_actions(texts: list[str]) -> frozenset[Action]:
    """The actions named, or none when one of them is unknown or stands twice, or going and stopping are both named."""
    actions = [action for action in map(action_of, texts) if action is not None]
    if len(set(actions)) < len(texts) or {"forward", "stop"} <= set(actions):
        return frozenset()
    return frozenset(actions)


def _describes(text: str, taken: set[str], question: str) -> bool:
    copied = " ".join(text.casefold().split()) in " ".join(question.casefold().split())
    return len(_words(text) - taken) >= MIN_OWN_WORDS and not copied and not _lists_vocabulary(text)


def _justifies(text: str, taken: set[str]) -> bool:
    says_something = bool(reasons_in(text)) or len(_words(text) - taken) >= MIN_OWN_WORDS
    return says_something and not _lists_vocabulary(text)


def _lists_vocabulary(text: str) -> bool:
    return len(reasons_in(text)) > MAX_REASONS or len(objects_in(text)) > MAX_OBJECTS


def _vocabulary(answer: _Answer) -> int:
    """How many fields use the data set's words."""
    return sum(map(bool, (answer.actions, reasons_in(answer.justification), objects_in(answer.description))))


def _consistency(answer: _Answer) -> float:
    """How well the justification bears out the action, 0-1."""
    reasons = reasons_in(answer.justification)
    if actions_in(answer.justification) - answer.actions:
        return 0.0
    if any(reason.rules_out and reason.action in answer.actions for reason in reasons):
        return 0.0
    grounds = [reason.action for reason in reasons if not reason.rules_out]
    supported = [action for action in grounds if action in answer.actions]
    if not supported:
        return 0.0
    return len(supported) / len(grounds) * len(set(supported)) / len(answer.actions)


def _words(text: str) -> set[str]:
    return set(words(text))
