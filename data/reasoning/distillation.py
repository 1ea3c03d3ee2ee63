"""Distillation of reasoning (ReasonDrive, arXiv 2504.10757): what a teacher is asked, which of its replies are used.

The teacher gets the true answer and says how one comes to it; that the reasoning is its own is not claimed. Pure text:
which model is asked, and how often, is in `data.reasoning.teacher`. The prompts are our own
(`data/reasoning/prompts/`), one for each task, with a budget of sentences after the paper's Table 1.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from data.drivelm_questions import letter_of
from data.sample import ANY, CAMERAS, TASKS, DrivingSample, Task

FOLDER = Path(__file__).parent / "prompts"
RULES = """Write {budget} of reasoning that leads from what the images show to the answer you are given, and nothing
that contradicts it. Speak as one who finds the answer, never as one who was told it: do not mention that an answer was
given. Name what is seen and where; where the question names an object by its tag, keep the tag as it is. Reply in
exactly this form, with nothing before or after it and the answer word for word as given:
<think>your reasoning</think><answer>the answer</answer>"""

_REPLY = re.compile(r"<think>(?P<think>.*?)</think>\s*<answer>(?P<answer>.*?)</answer>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
_FENCE = re.compile(r"\A```\w*\n(.*)\n```\Z", re.DOTALL)
_TELLS = re.compile(
    r"\bground[- ]truth\b|\b(?:given|provided|reference|correct|expected|stated|supplied)\s+answer\b"
    r"|\banswer\s+(?:is|was|that was|I was)\s+(?:given|provided|told)\b",
    re.IGNORECASE,
)
_OBJECT = re.compile(r"<\w+,\s*CAM_\w+,[^<>]*>")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|approx|no|mr|mrs|dr|st)\.", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*(?=\s|$)")


@dataclass(frozen=True, slots=True)
class ReasoningPrompt:
    """The teacher's instructions for one task."""

    label: str
    """Task and version, as kept with every record."""
    text: str
    fewest: int
    most: int
    """Sentences of reasoning."""


@dataclass(frozen=True, slots=True)
class DistillationRequest:
    """What is sent for one sample: instructions, the case, and the images by the names they are shown under."""

    sample_id: str
    prompt: str
    system: str
    user: str
    images: tuple[tuple[str, str], ...]
    """Camera and path, in the order of every prompt."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a reply is not used: a reason to count under, and a sentence to ask again with."""

    reason: str
    complaint: str


@cache
def reasoning_prompt(task: Task) -> ReasoningPrompt:
    """The prompt of a task: what to look at, how many sentences, and the form of the reply.

    Tasks that are not the papers' share one.
    """
    _, front, body = (FOLDER / f"{task if task in TASKS else ANY}.md").read_text(encoding="utf-8").split("---\n", 2)
    fewest, most = yaml.safe_load(front)["sentences"]
    text = f"{body.strip()}\n\n{RULES.format(budget=_budget(fewest, most))}"
    version = hashlib.sha256(text.encode()).hexdigest()[:12]
    return ReasoningPrompt(f"{task}@{version}", text, fewest, most)


def distillation_request(sample: DrivingSample, *, with_images: bool = True) -> DistillationRequest:
    """What a teacher is asked about a sample."""
    prompt = reasoning_prompt(sample.task)
    case = [f"Question: {sample.question}"]
    if sample.choices and not all(text in sample.question for text in sample.choices.values()):
        case += ["Options:", *(f"{letter}. {text}" for letter, text in sample.choices.items())]
    option = sample.choices.get(sample.answer)
    meant = "" if option is None else f"\nThe letter stands for: {option}"
    case += [f"Answer: {sample.answer}{meant}"]
    shown = [(camera, sample.images[camera]) for camera in CAMERAS if camera in sample.images] if with_images else []
    return DistillationRequest(sample.id, prompt.label, prompt.text, "\n".join(case), tuple(shown))


def read_reply(sample: DrivingSample, reply: str) -> str | Refusal:
    """The reasoning in a teacher's reply, on one line, or why the reply is not used.

    It must have the form `<think>...</think><answer>...</answer>` and nothing else (a code fence around it is taken
    off), the sample's own answer, as many sentences as the task's budget says, and no hint that the answer was given.
    """
    text = reply.strip()
    text = fenced[1].strip() if (fenced := _FENCE.match(text)) else text
    found = _REPLY.fullmatch(text)
    if found is None or _TAG.search(found["think"]) or _TAG.search(found["answer"]):
        return Refusal("wrong_form", "Reply with <think>reasoning</think><answer>answer</answer> alone, each tag once.")
    reasoning, prompt = " ".join(found["think"].split()), reasoning_prompt(sample.task)
    if not _same_answer(sample, found["answer"]):
        return Refusal("other_answer", f"Your answer was {found['answer'].strip()!r}; it must be {sample.answer!r}.")
    count = sentences(reasoning)
    if not prompt.fewest <= count <= prompt.most:
        reason = "too_short" if count < prompt.fewest else "too_long"
        return Refusal(reason, f"Your reasoning has {count} sentences; write {_budget(prompt.fewest, prompt.most)}.")
    if _TELLS.search(reasoning):
        return Refusal("tells_of_the_given_answer", "Do not mention that you were given an answer.")
    return reasoning


def sentences(text: str) -> int:
    """How many sentences a text has: ends followed by white space, words behind the last one counting as a sentence.

    Full stops in numbers, object tags and common abbreviations end nothing.
    """
    plain = _ABBREVIATION.sub(lambda found: found[0].replace(".", ""), _OBJECT.sub("object", text)).strip()
    pieces = _SENTENCE_END.split(plain)
    return sum(bool(re.search(r"\w", piece)) for piece in pieces)


def _budget(fewest: int, most: int) -> str:
    words = {1: "one", 2: "two", 3: "three"}
    if fewest == most:
        return f"{words[fewest]} sentence{'s' if fewest > 1 else ''}"
    return f"{words[fewest]} or {words[most]} sentences"


def _same_answer(sample: DrivingSample, text: str) -> bool:
    if sample.choices:
        return letter_of(text.strip(), sample.choices) == sample.answer
    return _plain(text) == _plain(sample.answer)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold().rstrip(".")
