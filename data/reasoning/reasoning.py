"""Reasoning beside an answer: texts that a policy is taught with, records of distilled reasoning, DriveLMM-o1's steps.

What a teacher is asked is in `data.reasoning.distillation`; which model is asked, in `data.reasoning.teacher`.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from data.errors import DataError
from data.reading.option_words import FINAL
from data.sample import DrivingSample
from data.text_file import read_lines

Variant = Literal["simple", "reason", "steps"]
"""How an answer is demonstrated. `reason` and `simple` are ReasonDrive's; its third, `instruct`, is the model as it
comes, asked and never trained, so it has no demonstrations. `steps` is DriveLMM-o1's."""

NO_REASONING = "no_reasoning"
OTHER_ANSWER = "reasoning_for_another_answer"
UNREADABLE_RECORD = "unreadable_reasoning_record"

_STEPS_HEADING = re.compile(r"^[\s*#]*(?:step[- ]by[- ]step\s+reasoning|逐步推理|推理步骤)[\s*:：]*", re.IGNORECASE)
_FINAL_HEADING = re.compile(rf"^[ \t*#]*(?:{FINAL})[ \t*]*(?:[:：][ \t*]*|$)", re.IGNORECASE | re.MULTILINE)
_NUMBERED = re.compile(r"^\s*\d+(?:[.)]\s+|[、．）。]\s*)", re.MULTILINE)


def demonstration(sample: DrivingSample, variant: Variant) -> str | None:
    """What a policy is taught to say to a sample; None where the sample has no reasoning and the variant needs one.

    - `simple`: the answer alone.
    - `reason`: `<think>reasoning</think><answer>answer</answer>`.
    - `steps`: numbered steps and the final answer under DriveLMM-o1's two headings; an option with its text.
    """
    if variant == "simple":
        return sample.answer
    if not sample.reasoning:
        return None
    if variant == "reason":
        return f"<think>{sample.reasoning}</think><answer>{sample.answer}</answer>"
    option = sample.choices.get(sample.answer)
    final = sample.answer if option is None else f"{sample.answer}) {option}"
    return f"**Step-by-Step Reasoning**:\n\n{sample.reasoning}\n\n**Final Answer**: {final}"


def steps_of(text: str) -> tuple[str, ...]:
    """The numbered steps of a DriveLMM-o1 record (`steps`, or what stands before its final answer), without numbers."""
    body = _STEPS_HEADING.sub("", text.strip())
    return tuple(" ".join(step.split()) for step in _NUMBERED.split(body) if step.strip())


def numbered(steps: Sequence[str]) -> str:
    """Steps as the reasoning of a sample: one line each, numbered from 1."""
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, 1))


def split_solution(text: str) -> tuple[tuple[str, ...], str]:
    """The steps and the final answer of a text that holds both under headings; without one, all of it is the answer."""
    headings = list(_FINAL_HEADING.finditer(text))
    if not headings:
        return (), text.strip()
    return steps_of(text[: headings[-1].start()]), text[headings[-1].end() :].strip()


@dataclass(frozen=True, slots=True)
class ReasoningRecord:
    """One line of a file of distilled reasoning: what a teacher wrote about a sample, or why that is not used."""

    id: str
    scene_id: str
    frame_id: str
    task: str
    answer: str
    reasoning: str
    """Empty where it was dropped."""
    dropped: str
    """The reason of the last refusal; empty where the reasoning is good."""
    detail: str
    attempts: int
    teacher: str
    prompt: str
    """Name and version of the prompt, such as `planning@0f3a...`."""

    def to_line(self) -> str:
        """The record as one line of JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class ReasoningFile:
    """The records of a file by sample id; of several on one sample the last one counts."""

    records: Mapping[str, ReasoningRecord]
    unreadable: tuple[str, ...]
    """A sentence for each line that is no record, as an interrupted write leaves one."""

    @property
    def dropped(self) -> dict[str, int]:
        """How many samples have no reasoning, by reason."""
        counts: defaultdict[str, int] = defaultdict(int)
        for record in self.records.values():
            if record.dropped:
                counts[record.dropped] += 1
        return dict(sorted(counts.items()))

    @property
    def done(self) -> set[str]:
        """The ids of the samples that have their reasoning."""
        return {record.id for record in self.records.values() if not record.dropped}


def read_reasoning(path: Path) -> ReasoningFile:
    """Read a file of distilled reasoning.

    Raises:
        DataError: the file is missing or UTF-16.
    """
    if not path.is_file():
        raise DataError(f"data.reasoning {path} does not exist or is not a file; make it with prepare_data.py distil")
    records, unreadable = {}, []
    for number, line in read_lines(path):
        record = _record(line)
        if record is None:
            start = line[:60].decode(errors="replace")
            unreadable.append(f"{path} line {number} is no record of distilled reasoning: {start!r}")
        else:
            records[record.id] = record
    return ReasoningFile(records, tuple(unreadable))


def with_reasoning(
    samples: Iterable[DrivingSample], file: ReasoningFile
) -> tuple[tuple[DrivingSample, ...], dict[str, list[str]]]:
    """The samples with the reasoning that a file has on them, and what is wrong, by reason, as ids or sentences.

    A record that was made for another answer than the sample has now is not used.
    """
    found, faults = [], defaultdict(list)
    for sample in samples:
        record = file.records.get(sample.id)
        if record is not None and record.answer != sample.answer:
            faults[OTHER_ANSWER].append(sample.id)
        elif record is not None and not record.dropped:
            sample = replace(sample, reasoning=record.reasoning)
        if not sample.reasoning:
            faults[NO_REASONING].append(sample.id)
        found.append(sample)
    if file.unreadable:
        faults[UNREADABLE_RECORD] = list(file.unreadable)
    return tuple(found), dict(faults)


def _record(line: bytes) -> ReasoningRecord | None:
    try:
        tree: Any = json.loads(line)
    except (ValueError, RecursionError):
        return None
    fields = ReasoningRecord.__dataclass_fields__
    if not isinstance(tree, dict) or tree.keys() != fields.keys():
        return None
    texts = [value for name, value in tree.items() if name != "attempts"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(tree["attempts"], int):
        return None
    return ReasoningRecord(**tree) if bool(tree["reasoning"]) != bool(tree["dropped"]) else None
