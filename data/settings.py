"""Settings of `data/`: which driving questions a run reads, and how they are split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

_PATHS = ("annotations", "image_root")
_ONCE: dict[str, tuple[str, ...]] = {
    "rendered": ("scenes", "questions"),
    "jsonl": _PATHS,
    "drivelm": _PATHS,
    "drivebench": (*_PATHS, "without_images", "visual_descriptions"),
    "drivelmm_o1": (*_PATHS, "name_cameras"),
    "bdd_oia": (*_PATHS, "reasons", "reason_order", "reply", "frames"),
    "driveaction": (*_PATHS, "context_mode", "language"),
    "drivelm_carla": _PATHS,
    "nuscenes": _PATHS,
}
"""Source to those of its options that stood beside `source` once, where older recipes and run folders have them."""
OLD_OPTIONS = tuple(dict.fromkeys(key for keys in _ONCE.values() for key in keys))


class UriSettings(BaseModel):
    """Images that are no files of the machine: `s3://`, `gs://`, `az://`, `hf://`, `http(s)://` in a JSONL file."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    allowed: tuple[str, ...] = Field(min_length=1)
    """What such a path must begin with, such as `s3://my-bucket/nuscenes/`: no other place is ever asked."""
    cache: Path | None = None
    """Folder of each machine that keeps what was read; None: `~/.cache/autodriverl/images`."""
    cache_gib: float = Field(20.0, gt=0)
    """Most that it keeps; what was not used for longest falls out."""

    @field_validator("allowed")
    @classmethod
    def _end_at_a_folder(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for one in given:
            if not re.fullmatch(r"[a-z][a-z0-9+.-]+://[^/@?#%\s]+/\S*", one if one.endswith("/") else f"{one}/"):
                raise ValueError(f"{one} does not begin like s3://bucket/ or https://host/folder/")
        return tuple(one if one.endswith("/") else f"{one}/" for one in given)


class DataSettings(BaseModel):
    """Where the samples come from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    source: str = "rendered"
    """`rendered`: six-camera scenes drawn here with exact ground truth; `jsonl`: your own samples; `chat`:
    conversations (OpenAI's messages, ShareGPT); `hf`: a Hugging Face dataset on disk; `drivelm`,
    `drivebench`, `drivelmm_o1`, `bdd_oia`, `driveaction`, `drivelm_carla`, `nuscenes` (ego trajectories): the files of
    that dataset; `driving`: the expert's drives in the closed-loop world (docs/driving.md); `module:Class`: a dataset
    of your own (docs/data.md)."""
    options: dict[str, Any] = {}
    """What the source takes, such as `annotations` and `image_root`: the fields of its class's `Settings`
    (docs/data.md)."""
    uris: UriSettings | None = None
    """Where images may come from that are no files; None: from nowhere."""
    reasoning: Path | None = None
    """Reasoning for the training questions, as `prepare_data.py distil` writes it (JSONL, by sample id); None: what the
    annotations themselves hold."""
    cascade: bool = False
    """Show each training question after the true answers to its frame's questions of earlier tasks."""
    strict: bool = False
    """Make a faulty entry of the files an error instead of leaving it out and counting it."""
    unfit: Literal["refuse", "drop"] = "refuse"
    """A sample that the model cannot be asked (more than `rollout.max_images` images, a prompt for which
    `rollout.max_model_len` less `rollout.max_tokens` leaves no room, an image that its processor does not take, a
    special token of the model in a text): `refuse` is an error before anything starts; `drop` leaves it out and counts
    it."""
    max_prompt_tokens: int | None = Field(None, ge=1)
    """Leave out, and count, every question whose prompt is longer than this, image tokens included, whatever `unfit`
    says; None: no such filter."""
    special_tokens: Literal["refuse", "strip"] = "refuse"
    """A special token of the model, such as `<image>`, in a question, an answer or reasoning: `refuse` makes the sample
    unfit; `strip` takes the token out and counts the sample."""
    max_refused_share: float = Field(0.1, ge=0, le=1)
    """The run stops when more than this share of its questions cannot be asked although they could when it began: an
    image was cut off or moved since, or an engine refuses the prompt. Fewer are left out, each with a warning."""
    held_out: float = 0.25
    """Share of the scenes that is never trained on. Splits are by scene, never by question; at least one scene."""
    task_shares: dict[str, float] = {"any": 1.0}
    """Relative frequency at which each task is drawn in training: `any` stands for every task of the data that is not
    named beside it. A task without a share, or with 0, is neither drawn nor shown. `data.task_shares.planning=3` on a
    command line adds to what is there; a mapping in a recipe file is the whole of it."""
    seed: int = 0
    """Seed of the split, of the training order, and of whatever the source draws."""

    @model_validator(mode="before")
    @classmethod
    def _move_options(cls, given: Any) -> Any:
        return with_moved_options({"source": "rendered", **given}) if isinstance(given, dict) else given


class EnvironmentSettings(BaseModel):
    """What the policy acts in, turn by turn, in place of answering single questions."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str = "driving"
    """`driving`: the closed-loop world of `data/driving/`; or `module:Class` of your own (`data/environment.py`)."""
    options: dict[str, Any] = {}
    """What the environment takes: the fields of its class's `Settings`."""
    weights: dict[str, float] = {
        "progress": 100.0,
        "collision": -50.0,
        "off_road": -30.0,
        "red_light": -30.0,
        "outside_lane": -100.0,
        "discomfort": -1.0,
    }
    """Points for one unit of each thing that the environment measures; their sum over an episode, kept within 0 and
    100, is its score. What has no weight counts nothing."""
    discount: float = Field(0.95, gt=0, le=1)
    """What a point is worth one turn later: each turn is credited with the discounted points from there on."""
    credit: Literal["turn", "place", "episode"] = "turn"
    """`turn`: the points from that turn on, compared with those of the siblings that are still driving in that turn;
    `place`: compared with those of the siblings from where they had come as far, each in its own time; `episode`: the
    whole episode's score, the same for all its turns."""
    place: str = "progress"
    """With `credit: place`: the measure whose points so far say how far an episode has come."""
    max_turns: int = Field(60, ge=1)
    """An episode that is not over after this many turns is ended."""
    workers: int = Field(1, ge=1)
    """Processes that hold environments."""
    cpus: float = Field(0.5, gt=0)
    """CPUs reserved for one worker."""
    waves: int = Field(2, ge=1)
    """The episodes of a step move in this many waves: while one waits for the engines, another moves in its worlds."""
    timeout_s: float = Field(60.0, gt=0)
    """Longest wait for a worker to move its share of a wave; one that takes longer is ended and started again."""
    restarts: int = Field(5, ge=0)
    """How often each worker is started again."""
    seconds_per_token: float = Field(0.0, ge=0)
    """What a token of an answer costs of the episode's time; until an answer has arrived, the one before goes on."""
    measured_each: int = Field(10, ge=1)
    """Episodes of every scenario that are measured before and after, of those that are trained on and of those held
    out."""
    demonstrated: int = Field(0, ge=0)
    """For the control (`evaluation.control`): how many fresh scenarios the demonstrations of more imitation come from;
    0: as many as the training drove."""

    @model_validator(mode="after")
    def _check_place(self) -> Self:
        if self.credit == "place" and self.weights.get(self.place, 0.0) <= 0:
            weighed = ", ".join(name for name, weight in self.weights.items() if weight > 0) or "nothing"
            raise ValueError(
                f"credit: place compares episodes by their points of place={self.place}, to which weights gives none "
                f"(it gives points to {weighed}): name one that it gives points to, or set credit: turn"
            )
        return self


def with_moved_options(given: dict[str, Any]) -> dict[str, Any]:
    """A mapping of `data` in which options that stand beside `source`, as they once did, are among its options.

    Those of another source than the one it names never counted: they are left out.

    Raises:
        ValueError: an option is given in both places, with two values.
    """
    source = given.get("source")
    own = OLD_OPTIONS if source is None else _ONCE.get(str(source), _PATHS)
    gone = set(own) if ":" in str(source) else set(OLD_OPTIONS)
    moved = {key: given[key] for key in own if given.get(key) is not None}
    options = given.get("options", {})
    rest = {key: value for key, value in given.items() if key not in gone}
    if not (moved and isinstance(options, dict)):
        return rest
    twice = [key for key, value in moved.items() if options.get(key, value) != value]
    if twice:
        raise ValueError(f"data.{twice[0]} and data.options.{twice[0]} differ: give the second alone")
    return {**rest, "options": {**options, **moved}}
