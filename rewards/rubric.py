"""Rubrics: what a judge must look for, one file each, and the request that puts an answer before the judge.

A rubric is a Markdown file with a YAML front matter; the built-in ones lie in `rewards/rubrics/`, your own anywhere.
Its version is the hash of the file, so that no two wordings are ever taken for one.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from data.sample import DrivingSample, Task
from rewards.errors import RewardError
from rewards.judge import Criterion, JudgeRequest
from rewards.untrusted import block

FOLDER = Path(__file__).parent / "rubrics"
ANSWER = "answer"
"""The block that holds what is judged; it comes last, so that the answers to one question share a long prefix."""
ASK = "Fill in the sheet for this answer. Reply with the JSON object alone."

Part = Literal["question", "options", "reference", "description"]
"""What a rubric can let the judge see of a case, beside the answer."""

_FRONT_MATTER = re.compile(r"---\n(.*?\n)---\n(.*)", re.DOTALL)
_BY_TASK: dict[Task, str] = {
    "perception": "perception_vqa",
    "prediction": "prediction_vqa",
    "planning": "planning_vqa",
    "behavior": "behavior_mcq",
}


_block_of_sample = lru_cache(1024)(block)
"""Of what all responses to a sample share: its question and its reference are cleaned once."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """A rubric: `text` is the judge's system message, `sees` the parts of a case that go with it."""

    name: str
    version: str
    source: str
    text: str
    criteria: tuple[Criterion, ...]
    sees: tuple[Part, ...]

    @property
    def label(self) -> str:
        """Name and version, as kept with every judgement."""
        return f"{self.name}@{self.version}"

    def request(self, sample: DrivingSample, response_text: str) -> JudgeRequest:
        """Ask for a judgement of a response. A part of the case that the sample does not have is left out."""
        shown = [_block_of_sample(part, text) for part in self.sees if (text := _part(part, sample))]
        user = "\n".join([*shown, block(ANSWER, response_text), ASK])
        return JudgeRequest(self.label, self.text, user, self.criteria)


def rubric_for(sample: DrivingSample) -> str:
    """The rubric of a sample whose route names none: one of AutoDriveRL's six, by kind, then by task.

    Those six cover six pairs of task and kind; every other pair takes the one whose criteria fit. All yes/no questions
    share a rubric; options about objects go to perception's and options about the ego vehicle to behavior's; whatever
    is answered in free words, coordinates or both goes to the task's own. Tasks of a data set's own, which no rubric
    knows, are compared with the reference, as DriveLM does it: name one of yours in a route where that is too little.
    """
    if sample.task not in _BY_TASK:
        return "drivelm"
    if sample.kind == "yes_no":
        return "prediction_yes_no"
    if sample.kind == "multiple_choice":
        return "perception_mcq" if sample.task in ("perception", "prediction") else "behavior_mcq"
    return _BY_TASK[sample.task]


def rubric_names() -> list[str]:
    """The names of the built-in rubrics."""
    return sorted(path.stem for path in FOLDER.glob("*.md"))


def rubric_texts() -> list[str]:
    """The instructions of each built-in rubric."""
    return [load_rubric(name).text for name in rubric_names()]


def load_rubric(name: str) -> Rubric:
    """A built-in rubric by name, or your own by the path of its `.md` file.

    Raises:
        RewardError: the name is unknown, the file cannot be read, or it is no rubric; the message names file and field.
    """
    if name.endswith(".md"):
        return _read(Path(name).expanduser())
    return _of_the_house(name)


@cache
def _of_the_house(name: str) -> Rubric:
    names = rubric_names()
    if name not in names:
        close = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {close[0]}?" if close else f"rubrics: {', '.join(names)}"
        raise RewardError(f"unknown rubric {name} ({hint}); your own is named by the path of its .md file")
    return _read(FOLDER / f"{name}.md")


class _CriterionFields(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
    points: int | None = Field(None, ge=1)
    lowest: int | None = Field(None, ge=0)
    highest: int | None = None
    counts: bool = True

    @model_validator(mode="after")
    def _points_or_bounds(self) -> _CriterionFields:
        bounds = (self.lowest, self.highest)
        if (self.points is None) == (bounds == (None, None)):
            raise ValueError("needs either points, or lowest and highest")
        if self.points is None and (self.lowest is None or self.highest is None or self.lowest >= self.highest):
            raise ValueError("needs a lowest below its highest")
        return self

    def criterion(self) -> Criterion:
        if self.points is not None:
            return Criterion(self.name, self.points, counts=self.counts)
        return Criterion(self.name, self.highest or 0, self.lowest or 0, self.counts)


class _FrontMatter(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
    source: Annotated[str, StringConstraints(min_length=1)]
    sees: list[Part]
    criteria: list[_CriterionFields] = Field(min_length=1)

    @model_validator(mode="after")
    def _makes_a_sheet(self) -> _FrontMatter:
        names = [criterion.name for criterion in self.criteria]
        if len(set(names)) < len(names):
            raise ValueError("two criteria have the same name")
        if not any(criterion.counts for criterion in self.criteria):
            raise ValueError("at least one of the criteria must count")
        if len(set(self.sees)) < len(self.sees):
            raise ValueError("sees names a part twice")
        return self


def _read(path: Path) -> Rubric:
    try:
        content = path.read_bytes()
        found = _FRONT_MATTER.fullmatch(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except OSError as error:
        raise RewardError(f"rubric {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RewardError(f"rubric {path} is not UTF-8 text (byte {error.start})") from None
    if found is None:
        raise RewardError(f"rubric {path} must begin with a YAML front matter between two lines of ---")
    fields = _front_matter(path, found[1])
    text = found[2].strip()
    _check_text(path, text, fields)
    version = hashlib.sha256(content).hexdigest()[:12]
    criteria = tuple(criterion.criterion() for criterion in fields.criteria)
    return Rubric(fields.name, version, fields.source, text, criteria, tuple(fields.sees))


def _front_matter(path: Path, text: str) -> _FrontMatter:
    try:
        return _FrontMatter.model_validate(yaml.safe_load(text))
    except (yaml.YAMLError, RecursionError) as error:
        raise RewardError(f"rubric {path}: the front matter is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "front matter"
        raise RewardError(f"rubric {path}: {place}: {first['msg'].removeprefix('Value error, ')}") from None


def _check_text(path: Path, text: str, fields: _FrontMatter) -> None:
    """The instructions must say where the answer stands and what every line of the sheet means."""
    if f"<{ANSWER}>" not in text:
        raise RewardError(
            f"rubric {path}: the text must say that the answer is the data between <{ANSWER}> and </{ANSWER}>, and "
            "never an instruction"
        )
    missing = [criterion.name for criterion in fields.criteria if criterion.name not in text]
    if missing:
        raise RewardError(f"rubric {path}: the text does not explain the criteria {', '.join(missing)}")


def _part(part: Part, sample: DrivingSample) -> str:
    if part == "question":
        return sample.question
    if part == "options":
        return "\n".join(f"{letter}. {text}" for letter, text in sample.choices.items())
    if part == "reference":
        option = sample.choices.get(sample.answer)
        return sample.answer if option is None else f"{sample.answer}. {option}"
    return "\n".join(
        f"{thing.tag}: {', '.join(filter(None, (thing.category, thing.status, thing.description)))}"
        for thing in sample.objects
    )
