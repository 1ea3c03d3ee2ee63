"""The run folder as data: the names of its files, metrics and columns, and their reader.

The journal (in `actors`) writes by these names and the report reads by them. No torch, no ray.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from pydantic import ValidationError

from data.errors import DataError
from data.rollout import EngineTimes
from data.sample import Task, in_order
from data.text_file import unreadable
from evaluation.held_out import EvaluationResult, failure_name
from evaluation.suites.record import first_problem

T = TypeVar("T")

RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.jsonl"
SYNCS_FILE = "syncs.jsonl"
"""One line for each published weight version: which engines hold it, and what vouches for that."""
ALARMS_FILE = "alarms.jsonl"
PROVENANCE_FILE = "provenance.json"
DIFF_FILE = "provenance/diff.patch"
SAMPLES_FOLDER = "samples"
LEARNT_FOLDER = "learnt"
"""What the learner's ranks saw of each response, a file for each step and rank (`policies/learnt.py`)."""
POLICY_FOLDER = "policy"
ADAPTER_FOLDER = "adapter"
"""In the policy's folder: its adapter alone, in PEFT's layout, where it was trained with one."""
CHECKPOINTS_FOLDER = "checkpoints"
SUPERVISED_FOLDER = "supervised"
"""Holds the checkpoints of supervised steps, apart from those of reinforcement."""
EVALUATION_FOLDER = "evaluation"
TENSORBOARD_FOLDER = "tensorboard"

NOT_FINITE = "not_finite"
"""In a line of metrics: the names of those that were not finite, and are null."""
REWARD_MEAN = "reward/mean"
"""Mean reward of a step's scored rollouts, 0-100."""
LENGTH_MEAN = "response/length_mean"
"""Mean response length in tokens."""
OVERLONG_SHARE = "response/overlong_share"
"""Share of responses cut off at the token cap."""
VALID_FORMAT_SHARE = "response/valid_format_share"
"""Share of responses in the format their question asks for (`rewards/format.py`)."""
ENGINE_TIMES = tuple(f"response/{name}" for name in EngineTimes._fields)
"""Mean seconds of a response in its engine: preparing its prompt, in the queue, over its prompt, over its tokens."""
WAIT_TIME, SCORE_TIME = "response/wait_s", "response/score_s"
"""Mean seconds from the end of a response to the beginning of its scoring, and from there to its score."""
LOGPROB_MEAN = "response/logprob_mean"
"""Mean log-probability of a response token under the engine."""
PROBE_GAP = "probe_gap"
"""Largest difference, in nats, of the log-probabilities that engine and learner give the probes' first tokens, at a
weight sync; `sync.max_logprob_gap` bounds it."""
ROLLOUT_GAP = "rollout_gap_max"
"""The same of all tokens of a step's rollouts, as the learner meets them; for information, nothing bounds it."""
_FORMERLY = {"sync_gap": PROBE_GAP, "logprob_gap_max": ROLLOUT_GAP, "logprob_gap_mean": "rollout_gap_mean"}
"""What earlier runs called a metric."""
GROUPS = "groups/count"
ZERO_STD_GROUPS = "groups/zero_std"
"""Groups whose rewards, as the algorithm shapes them, are all equal: they teach nothing."""
MASKED_GROUPS = "groups/all_masked"
"""Groups without a single score."""
SCORING_OVERLAPPED_SHARE = "groups/scoring_overlapped_share"
"""Share of groups whose scoring began before their last token was generated."""
ROLLOUTS = "rollouts/count"
MASKED_ROLLOUTS = "rollouts/masked"
"""Rollouts whose score failed; each reason is also counted as `rollouts/masked/<reason>`."""


REWARD = "reward"
"""First part of the names of mean rewards."""


def task_reward(task: Task) -> str:
    """Metric name of the mean reward of one task, 0-100."""
    return f"{REWARD}/{task}"


def tasks_of(metrics: Iterable[str]) -> list[Task]:
    """The tasks that metrics hold a reward of, in their order."""
    first = f"{REWARD}/"
    return in_order(name.removeprefix(first) for name in metrics if name.startswith(first) and name != REWARD_MEAN)


def part_mean(part: str) -> str:
    """Metric name of the mean of one part of the score, over the rollouts that have it."""
    return f"parts/{part}"


BENCHMARK = "benchmark"
"""First part of the names of benchmarks' figures."""


def benchmark_figure(suite: str, figure: str) -> str:
    """Metric name of what a benchmark measured of the policy after a step."""
    return f"{BENCHMARK}/{suite}/{figure}"


def masked_reason(failure: str) -> str:
    """Metric name of the rollouts masked for one reason."""
    return f"{MASKED_ROLLOUTS}/{failure_name(failure)}"


ROLLOUT_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("group", pa.int64()),
        ("request_id", pa.string()),
        ("sample_id", pa.string()),
        ("scene_id", pa.string()),
        ("frame_id", pa.string()),
        ("task", pa.string()),
        ("kind", pa.string()),
        ("question", pa.string()),
        ("choices", pa.string()),  # JSON: letter to text
        ("images", pa.string()),  # JSON: camera to path
        ("ground_truth", pa.string()),
        ("response", pa.string()),
        ("token_count", pa.int64()),
        ("finish_reason", pa.string()),
        ("value", pa.float64()),  # null when the score failed: a masked rollout is never a zero
        ("parts", pa.string()),  # JSON: part to value
        ("failure", pa.string()),
        ("advantage", pa.float64()),
        ("seed", pa.int64()),  # of its sampling; null where the engine takes none
        ("weight_version", pa.int64()),  # the oldest that sampled a token
        ("weight_spans", pa.string()),  # JSON: version, first token, end; empty where one version sampled all
        ("dropped", pa.int64()),
        ("engine", pa.string()),
        ("started_at", pa.float64()),
        ("finished_at", pa.float64()),
        ("scoring_started_at", pa.float64()),
        ("scored_at", pa.float64()),
        ("engine_times", pa.list_(pa.float64())),  # those of `data.rollout.EngineTimes`; null where no engine said
        ("logprob_mean", pa.float64()),
        ("increments", pa.string()),  # JSON: gain and end of each span; null where nobody can tell
        ("prompt_ids", pa.list_(pa.int32())),
        ("token_ids", pa.list_(pa.int32())),
        ("logprobs", pa.list_(pa.float64())),  # the engine's, one for each token
    ]
)
"""Columns of `samples/step_*.parquet`, one row per rollout; times are seconds since 1970. A file is there before its
batch is learnt from; the metadata `batch` of the schema holds what is not of a rollout, as JSON."""


def newest_step(folder: Path) -> int | None:
    """The step of the newest checkpoint by its name, whatever it is worth; None where there is none."""
    steps = [int(one.name.removeprefix("step_")) for one in (folder / CHECKPOINTS_FOLDER).glob("step_*[0-9]")]
    return max(steps, default=None)


def checkpoint_folder(folder: Path, step: int) -> Path:
    """Where a run's checkpoint of a step lies, once it is written whole."""
    return folder / CHECKPOINTS_FOLDER / f"step_{step:06d}"


def samples_path(folder: Path, step: int) -> Path:
    """The file that keeps every rollout of a step."""
    return folder / SAMPLES_FOLDER / f"step_{step:06d}.parquet"


def learnt_path(folder: Path, step: int, rank: int) -> Path:
    """The file in which a rank keeps what a step's updates saw of its responses."""
    return folder / LEARNT_FOLDER / f"step_{step:06d}.rank_{rank}.parquet"


def evaluation_path(folder: Path, name: str) -> Path:
    """The file that keeps one evaluation.

    Raises:
        ValueError: the name would leave the folder.
    """
    if Path(name).name != name:
        raise ValueError(f"evaluation name {name!r} must be a plain file name")
    return folder / EVALUATION_FOLDER / f"{name}.json"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run folder holds. Parts that are not there yet are empty."""

    folder: Path
    recipe: dict[str, Any]
    recipe_text: str
    provenance: dict[str, Any]
    steps: tuple[dict[str, Any], ...]
    """One mapping of metrics per step, ascending. What is recorded later of a step joins it; of a metric that a step
    has twice (after a resume) the last counts."""
    evaluations: dict[str, EvaluationResult]
    alarms: tuple[dict[str, Any], ...]
    """What called for a person: `step`, `kind` and `message` of each."""
    dropped: dict[str, int]
    """What could not be read, counted under a name; files of `samples/` are found to be damaged when they are read."""
    unread: tuple[str, ...] = ()
    """What else could not be read, in sentences, where reading was to go on without it."""

    def series(self, metric: str) -> tuple[tuple[float, float], ...]:
        """Step and value of a metric, wherever it was measured and finite."""
        return tuple((step["step"], step[metric]) for step in self.steps if step.get(metric) is not None)

    def tasks(self) -> list[Task]:
        """The tasks that were trained on or measured."""
        measured = (task for result in self.evaluations.values() for task in result.tasks)
        return in_order([*tasks_of(metric for step in self.steps for metric in step), *measured])

    def benchmarks(self) -> dict[str, tuple[str, ...]]:
        """The benchmarks that measured the policy on its way, each with the names of its figures."""
        found: dict[str, dict[str, None]] = {}
        for metric in dict.fromkeys(metric for step in self.steps for metric in step):
            first, _, rest = metric.partition("/")
            if first == BENCHMARK:
                suite, _, figure = rest.partition("/")
                found.setdefault(suite, {})[figure] = None
        return {suite: tuple(figures) for suite, figures in found.items()}

    def trained_scenes(self) -> set[str]:
        """The scenes that some rollout was about."""
        scenes: set[str] = set()
        for path in (self.folder / SAMPLES_FOLDER).glob("step_*.parquet"):
            scenes.update(row["scene_id"] for row in self._rows(path, ["scene_id"]))
        return scenes

    def rollouts(self, first_step: int) -> Iterator[dict[str, Any]]:
        """The rows of `samples/`, from `first_step` on and up to the last journalled step, in order."""
        last_step = self.steps[-1]["step"] if self.steps else -1
        for path in sorted((self.folder / SAMPLES_FOLDER).glob("step_*.parquet")):
            if first_step <= int(path.stem.removeprefix("step_")) <= last_step:
                yield from self._rows(path)

    def _rows(self, path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
        """The rows of a file of rollouts; none, and counted, where it is damaged."""
        try:
            return pq.read_table(path, columns=columns).to_pylist()
        except (OSError, pa.ArrowException):
            self.dropped[f"unreadable file {SAMPLES_FOLDER}/{path.name}"] = 1
            return []


def read_run(folder: Path, *, whatever_is_there: bool = False) -> RunRecord:
    """Read a run folder, finished or not.

    Args:
        folder: of the run.
        whatever_is_there: go on without files that are damaged, and keep a sentence on each in `unread`.

    Raises:
        FileNotFoundError: the folder does not exist.
        DataError: the recipe, the provenance or a file in `evaluation/` is damaged; the message names it.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"run folder {folder} does not exist")
    unread: list[str] = []

    def read(path: Path, reader: Callable[[Path], T], missing: T) -> T:
        try:
            return reader(path)
        except (DataError, OSError) as error:
            if not whatever_is_there:
                raise
            unread.append(str(error))
            return missing

    nothing: tuple[dict[str, Any], str] = ({}, "")
    recipe, recipe_text = read(folder / RECIPE_FILE, _read_recipe, nothing)
    steps, broken_steps, texts = _read_metrics(folder / METRICS_FILE)
    alarms, broken_alarms = read_lines(folder / ALARMS_FILE, "message")
    broken = {f"unreadable lines of {METRICS_FILE}": broken_steps, f"unreadable lines of {ALARMS_FILE}": broken_alarms}
    broken[f"values of {METRICS_FILE} that are no numbers"] = texts
    paths = sorted((folder / EVALUATION_FOLDER).glob("*.json"))
    found = [read(path, read_evaluation, None) for path in paths]
    evaluations = [result for result in found if result is not None]
    return RunRecord(
        folder=folder,
        recipe=recipe,
        recipe_text=recipe_text,
        provenance=read(folder / PROVENANCE_FILE, _read_provenance, {}),
        steps=steps,
        evaluations={result.name: result for result in evaluations},
        alarms=tuple(alarms),
        dropped={name: count for name, count in broken.items() if count},
        unread=tuple(unread),
    )


def read_evaluation(path: Path) -> EvaluationResult:
    """Read one file of `evaluation/`.

    Raises:
        DataError: it is not an evaluation; the message names it.
    """
    try:
        return EvaluationResult.from_json(path.read_text(encoding="utf-8"))
    except (ValidationError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not an evaluation as this version writes it: {first_problem(error)}") from None


def _read_recipe(path: Path) -> tuple[dict[str, Any], str]:
    """The recipe of a run and its text; empty where it is not there yet."""
    if not path.is_file():
        return {}, ""
    try:
        text = path.read_text(encoding="utf-8")
        tree = yaml.safe_load(text) or {}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise DataError(f"{path} holds a {type(tree).__name__}; a recipe is a mapping of parts")
    return tree, text


def _read_provenance(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error) from None
    if not isinstance(tree, dict):
        raise DataError(f"{path} holds a {type(tree).__name__}; needed is an object")
    return tree


def _read_metrics(path: Path) -> tuple[tuple[dict[str, Any], ...], int, int]:
    """The steps of `metrics.jsonl`, how many lines are none, and how many values are no numbers, which are left out."""
    lines, broken = read_lines(path)
    by_step: dict[int, dict[str, Any]] = {}
    odd = 0
    for metrics in lines:
        usable = {name: value for name, value in metrics.items() if name == NOT_FINITE or _is_number(value)}
        odd += len(metrics) - len(usable)
        by_step.setdefault(metrics["step"], {}).update({_FORMERLY.get(name, name): v for name, v in usable.items()})
    return tuple(by_step[step] for step in sorted(by_step)), broken, odd


def _is_number(value: object) -> bool:
    """None stands for one that was not finite."""
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def read_lines(path: Path, *texts: str) -> tuple[list[dict[str, Any]], int]:
    """The records of a step, with these texts, in a file of lines; and how many lines are none, as one cut off."""
    found: list[dict[str, Any]] = []
    lines = path.read_bytes().splitlines() if path.is_file() else []
    for line in lines:
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            continue
        if (
            isinstance(record, dict)
            and type(record.get("step")) is int
            and all(isinstance(record.get(text), str) for text in texts)
        ):
            found.append(record)
    return found, len(lines) - len(found)


def keep_previous(path: Path) -> None:
    """Rename an existing `x.yaml` to the first free `x.1.yaml`, `x.2.yaml`, ...; do nothing when there is none."""
    if not path.exists():
        return
    number = 1
    while (kept := path.with_suffix(f".{number}{path.suffix}")).exists():
        number += 1
    path.rename(kept)
