"""DriveLM's wording: which task a question belongs to, its options, and which kind of answer it wants. Pure text."""

from __future__ import annotations

import re
from collections.abc import Mapping

from data.coordinates import coordinate_pairs, without_coordinates
from data.reading.option_words import FINAL, IS, OPTION, STATED
from data.reading.rules import is_verdict, normalise
from data.reading.words import folded, scripts_apart
from data.sample import Kind, Task

_TASK_WORDING: tuple[tuple[Task, str], ...] = (
    ("behavior", r"^predict the behavior of the ego vehicle"),
    # Before planning: the occlusion question also asks for a dangerous action, the notice question for actions.
    ("prediction", r"most likely to be occluded by|should the ego vehicle notice first|most likely to consider"),
    ("prediction", r"future state of|in the moving direction of|change its motion state|most relevant to its decision"),
    ("prediction", r"traffic signs?\b.*\?$|^what does .* mean\?|^would .* take .* into account\?"),
    ("prediction", r"what are possible actions to be taken by"),
    ("planning", r"actions? (could|can|should|may|might) .* take|lead to a collision|probability of colliding"),
    ("planning", r"(safe|dangerous) actions to take|priority of the objects|(target|possible) action of the ego"),
    ("planning", r"should consider in the current scene|necessary for the ego vehicle to take .* into account"),
    ("planning", r"traffic signal that the ego vehicle|comment on this scene|affect (driving|the driver)"),
    ("perception", r"important objects? (in|on)|each important object|(moving|observed) status of"),
    ("perception", r"visual description of|describe the current scene|traffic elements? in the"),
    ("perception", r"^what are (the )?objects to the|^what is the status of|^(are|is) there "),
)
"""The wording by which a question without a task (llama format) is given one; the first pattern found counts.

Collected from DriveLM v1.1; every templated question of its public sample is found by one, and the tests compare
them with the tasks that the train format names. Wording that no pattern knows gives no task."""

_TASK_PATTERNS = tuple((task, re.compile(pattern, re.IGNORECASE)) for task, pattern in _TASK_WORDING)
_OPTIONS = re.compile(r"(?:following options:|\?:)\s*(?=A\. )")
_OPEN_QUESTION = re.compile(r"^(?:what|which|who|where|when|why|how)\b", re.IGNORECASE)
_LETTERED = re.compile(r"\W*([A-Za-z])(?:\s*[^\w\s]+\s*(.*)|\s*)", re.DOTALL)
_LETTER_AND_TEXT = re.compile(r"([A-Z])\s+(.+)", re.DOTALL)
_LED_IN = re.compile(rf"\W*(?:the\s+)?(?:{FINAL}|{STATED}|{OPTION}){IS}", re.IGNORECASE)
_GLUE = re.compile(r"\b(?:and|or)\b|[\s.,;:&\[\]()]")
"""What may stand between coordinates in an answer that is coordinates only."""


def infer_task(question: str) -> Task | None:
    """The task to which DriveLM's wording belongs, or None for wording that is not DriveLM's."""
    return next((task for task, pattern in _TASK_PATTERNS if pattern.search(question)), None)


def parse_choices(question: str) -> dict[str, str]:
    """The options by letter of "... the following options: A. Going ahead. B. Stopped. ..."; empty without options.

    DriveBench's questions about corruptions put them behind "?:" instead.
    Letters must come in order from A, so that a letter inside an option's text starts no new option.
    """
    start = _OPTIONS.search(question)
    if start is None:
        return {}
    rest, choices = question[start.end() :], {}
    letter = "A"
    while rest.startswith(f"{letter}. "):
        following = chr(ord(letter) + 1)
        text, _, after = rest[3:].partition(f" {following}. ")
        choices[letter] = text.strip()
        rest, letter = f"{following}. {after}" if after else "", following
    return choices if len(choices) > 1 else {}


def letter_of(answer: str, choices: Mapping[str, str]) -> str | None:
    """The option that an annotated answer means, or None: "B", "（B）", "B. Stopped.", "答案：B", "Stopped.".

    Case, width and marks at the ends do not count. A letter before the text of another option means none.
    """
    texts = {letter: _bare(text) for letter, text in choices.items()}
    plain = scripts_apart(folded(answer))
    plain = plain[found.end() :] if (found := _LED_IN.match(plain)) else plain
    for pattern in (_LETTERED, _LETTER_AND_TEXT):
        lettered = pattern.fullmatch(plain)
        letter = lettered[1].upper() if lettered else ""
        if lettered and letter in texts and _bare(lettered[2] or "") in ("", texts[letter]):
            return letter
    same = [letter for letter, text in texts.items() if text == _bare(answer) != ""]
    return same[0] if len(same) == 1 else None


def infer_kind(question: str, answer: str, choices: Mapping[str, str]) -> Kind:
    """What kind of answer is wanted, judged by the question and its annotated answer.

    Options make it multiple choice; an answer like "Yes.", "False", "是。" or "Yes, there are ..." yes/no, unless the
    question begins with "What" or its like; coordinates with no words but "and" between them coordinates; coordinates
    among words structured; all else is open-ended.
    """
    if choices:
        return "multiple_choice"
    if is_verdict(answer) and not _OPEN_QUESTION.match(question):
        return "yes_no"
    if coordinate_pairs(answer):
        return "structured" if _GLUE.sub("", without_coordinates(answer)) else "coordinates"
    return "open_ended"


def _bare(text: str) -> str:
    return normalise(scripts_apart(folded(text)))
