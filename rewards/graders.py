"""Graders: what an answer is worth, as a client of OpenAI's fine-tuning describes it in JSON.

OpenAI's `string_check`, `text_similarity`, `score_model` and `multi`, and ours: `rubric`, `clip`, `structure` and
`coordinates`. OpenAI's give 0 to 1, or what `range` says; a run's reward is 100 times that, within 0 to 100.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from rewards.errors import RewardError
from rewards.formula import Formula
from rewards.rubric import rubric_names

TEMPLATE = re.compile(r"{{\s*([^{}]*?)\s*}}")
OUTPUT = "sample.output_text"
FIELDS = ("id", "task", "kind", "question", "answer", "reference_answer", "reasoning")
"""What a driving sample gives to a template, each as `{{ item.<name> }}`."""
METRICS = ("bleu", "rouge_l", "fuzzy_match")
MOST_GRADERS = 16
MOST_TEXT = 20_000


class _Grader(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,59}$")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else given

    def templates(self) -> Iterator[tuple[str, str]]:
        """The texts that hold templates, each with the field that it stands in."""
        return iter(())

    @property
    def asks(self) -> frozenset[str]:
        """The models that it needs: `judge`, `clip`."""
        return frozenset()


class StringCheck(_Grader):
    """1 where two texts compare as asked, else 0."""

    type: Literal["string_check"]
    operation: Literal["eq", "ne", "like", "ilike"]
    input: str = Field(max_length=MOST_TEXT)
    reference: str = Field(max_length=MOST_TEXT)

    def templates(self) -> Iterator[tuple[str, str]]:
        """As above."""
        yield from (("input", self.input), ("reference", self.reference))


class TextSimilarity(_Grader):
    """How alike two texts are, 0 to 1."""

    type: Literal["text_similarity"]
    evaluation_metric: str
    input: str = Field(max_length=MOST_TEXT)
    reference: str = Field(max_length=MOST_TEXT)
    pass_threshold: float | None = None
    """Accepted; a reward is not cut in two."""

    @field_validator("evaluation_metric")
    @classmethod
    def _known(cls, given: str) -> str:
        if given not in METRICS:
            raise ValueError(f"{given[:40]!r} is not served, only {', '.join(METRICS)}")
        return given

    def templates(self) -> Iterator[tuple[str, str]]:
        """As above."""
        yield from (("input", self.input), ("reference", self.reference))


class JudgeText(BaseModel):
    """A text of a message to the judge."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    type: Literal["input_text", "output_text", "text"]
    text: str = Field(max_length=MOST_TEXT)


class JudgeMessage(BaseModel):
    """A message to the judge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    role: Literal["user", "assistant", "system", "developer"]
    content: str | JudgeText | list[str | JudgeText]
    type: Literal["message"] = "message"

    @property
    def text(self) -> str:
        """All of it."""
        parts = self.content if isinstance(self.content, list) else [self.content]
        return "\n".join(part if isinstance(part, str) else part.text for part in parts)


class JudgeSampling(BaseModel):
    """Accepted as OpenAI spells it; the judge's own settings hold for all who ask it, so that its answers are kept."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_completions_tokens: int | None = None
    reasoning_effort: str | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None


class ScoreModel(_Grader):
    """A number that the judge gives, between the two of `range`."""

    type: Literal["score_model"]
    model: str = Field(max_length=400)
    input: list[JudgeMessage] = Field(min_length=1, max_length=32)
    range: tuple[float, float] = (0.0, 1.0)
    sampling_params: JudgeSampling = JudgeSampling()
    pass_threshold: float | None = None
    """Accepted; a reward is not cut in two."""

    @field_validator("range")
    @classmethod
    def _rises(cls, given: tuple[float, float]) -> tuple[float, float]:
        if not -1e6 <= given[0] < given[1] <= 1e6:
            raise ValueError("the lower number comes first, and both lie within a million")
        return given

    def templates(self) -> Iterator[tuple[str, str]]:
        """As above."""
        yield from ((f"input.{at}", message.text) for at, message in enumerate(self.input))

    @property
    def asks(self) -> frozenset[str]:
        """As above."""
        return frozenset({"judge"})


class RubricGrader(_Grader):
    """The judge, by one of AutoDriveRL's rubrics; without a name by that for the task and kind of the question."""

    type: Literal["rubric"]
    rubric: str | None = None

    @field_validator("rubric")
    @classmethod
    def _known(cls, given: str | None) -> str | None:
        if given is not None and given not in rubric_names():  # a path would be one of the server's
            raise ValueError(f"there is no rubric {given[:60]!r}, only {', '.join(rubric_names())}")
        return given

    @property
    def scorer(self) -> str:
        """Its name among the scorers of a recipe."""
        return f"judge/{self.rubric}" if self.rubric else "judge"

    @property
    def asks(self) -> frozenset[str]:
        """As above."""
        return frozenset({"judge"})


class ClipGrader(_Grader):
    """How well the answer fits the sample's images (R1)."""

    type: Literal["clip"]
    scorer: Literal["clip"] = "clip"

    @property
    def asks(self) -> frozenset[str]:
        """As above."""
        return frozenset({"clip"})


class StructureGrader(_Grader):
    """Whether the answer is one JSON object that agrees with itself (R3)."""

    type: Literal["structure"]
    scorer: Literal["structure"] = "structure"


class CoordinatesGrader(_Grader):
    """The F1 of the coordinates in the answer, within 16 pixels."""

    type: Literal["coordinates"]
    scorer: Literal["hybrid_coordinate_f1"] = "hybrid_coordinate_f1"


Simple = Annotated[
    StringCheck | TextSimilarity | ScoreModel | RubricGrader | ClipGrader | StructureGrader | CoordinatesGrader,
    Field(discriminator="type"),
]


class MultiGrader(_Grader):
    """A formula over other graders."""

    type: Literal["multi"]
    graders: dict[str, Simple] = Field(min_length=1, max_length=MOST_GRADERS)
    calculate_output: str

    @field_validator("graders", mode="before")
    @classmethod
    def _as_mapping(cls, given: Any) -> Any:
        """The client's types have one grader here, its documentation a mapping, and some send a list."""
        if isinstance(given, dict) and isinstance(given.get("type"), str):
            return {given.get("name", "grader"): given}
        if isinstance(given, list):
            return {one.get("name", str(at)) if isinstance(one, dict) else str(at): one for at, one in enumerate(given)}
        return given

    @model_validator(mode="after")
    def _reads(self) -> MultiGrader:
        _ = self.formula
        return self

    @cached_property
    def formula(self) -> Formula:
        """How their scores become one."""
        return Formula(self.calculate_output, tuple(self.graders))

    def templates(self) -> Iterator[tuple[str, str]]:
        """As above."""
        for name, grader in self.graders.items():
            yield from ((f"graders.{name}.{field}", text) for field, text in grader.templates())

    @property
    def asks(self) -> frozenset[str]:
        """As above."""
        return frozenset(name for grader in self.graders.values() for name in grader.asks)


Grader = Annotated[
    StringCheck
    | TextSimilarity
    | ScoreModel
    | RubricGrader
    | ClipGrader
    | StructureGrader
    | CoordinatesGrader
    | MultiGrader,
    Field(discriminator="type"),
]
_ADAPTER: TypeAdapter[Any] = TypeAdapter(Grader)
REFUSED = {"python": "this server runs no code of clients", "label_model": "use score_model with a range of 0 to 1"}


def read_grader(given: Any, fields: tuple[str, ...] | None = FIELDS) -> Any:
    """The grader that some JSON describes.

    Args:
        given: parsed JSON.
        fields: what `{{ item.<name> }}` may name; None: anything.

    Raises:
        RewardError: it is none, or is not served; names the field.
    """
    for kind in _kinds(given):
        if kind in REFUSED:
            raise RewardError(f"type: a {kind} grader is not served ({REFUSED[kind]})")
    try:
        grader = _ADAPTER.validate_python(given)
    except RecursionError:
        raise RewardError("it is nested too deeply") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:]) or "type"
        said = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            said = "this grader does not know it"
        raise RewardError(f"{place}: {said}"[:400]) from None
    for field, text in grader.templates():
        for name in TEMPLATE.findall(text):
            check_name(name, field, fields)
    return grader


def grader_text(grader: Any) -> str:
    """A grader as JSON, for a file that a recipe names."""
    return json.dumps(grader.model_dump(mode="json", exclude_none=True), sort_keys=True)


def check_name(name: str, field: str, fields: tuple[str, ...] | None) -> None:
    """Refuse a template that nothing fills.

    Raises:
        RewardError: names it, and what there is.
    """
    item, _, rest = name.partition(".")
    if name == OUTPUT or (item == "item" and rest and (fields is None or rest in fields)):
        return
    known = ", ".join(f"item.{one}" for one in fields) if fields is not None else "item.<field>"
    raise RewardError(f"{field}: there is no {{{{ {name[:60]} }}}}, only {OUTPUT}, {known}")


def _kinds(given: Any) -> Iterator[str]:
    if not isinstance(given, dict):
        return
    if isinstance(given.get("type"), str):
        yield given["type"]
    inside = given.get("graders")
    listed = inside if isinstance(inside, list) else list(inside.values()) if isinstance(inside, dict) else []
    for one in [*listed, inside]:
        if isinstance(one, dict) and isinstance(one.get("type"), str):
            yield one["type"]
