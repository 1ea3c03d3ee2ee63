"""One side of a comparison: a training run's evaluation or a benchmark's run, read from its folder. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.errors import DataError
from evaluation.comparison.before_after import AFTER
from evaluation.held_out import AnswerRecord, EvaluationResult
from evaluation.run_record import EVALUATION_FOLDER, RECIPE_FILE, read_evaluation, read_run
from evaluation.suites.record import RESULTS_FILE, read_record

NOT_OF_THE_SCORE = frozenset(
    {
        *("alarm", "timeout_s", "max_masked_share"),
        *("actors", "api_key_env", "attempts", "backoff_s", "batch_size", "cache", "cache_mib", "cpus", "engines"),
        *("gpu_memory_share", "gpus", "increments", "longest_backoff_s", "max_concurrent", "max_wait_ms", "memory_gib"),
        *("requests_per_minute", "restarts", "start_timeout_s", "tensor_parallel", "threads", "tokens_per_minute"),
        "url",
    }
)
"""Settings of a recipe's `reward` that say where and how fast answers are scored, not what they are worth."""


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """What was read of one side."""

    path: Path
    name: str
    """The run's name with that of the evaluation or the benchmark."""
    measured: str
    """What was measured, in words."""
    answers: tuple[AnswerRecord, ...]
    suite: str | None = None
    """The benchmark; None for a training run."""
    judge: str | None = None
    """The benchmark's judge; None where nobody judged."""
    reward: Mapping[str, Any] | None = None
    """The recipe's `reward`; None where no recipe lies beside the evaluation."""


def read_both(a: Path, b: Path, evaluation: str | None = None) -> tuple[ComparedRun, ComparedRun]:
    """Read both sides.

    Args:
        a: a training run's folder, one file of its `evaluation/`, or the folder of a benchmark's run.
        b: likewise.
        evaluation: the evaluation of the training runs; None takes `after`, or the only one there is.

    Raises:
        DataError: a side is none of these, or the evaluation is not there, or there is nothing to which it applies.
    """
    runs = _read(a, evaluation), _read(b, evaluation)
    if evaluation is not None and all(run.path.is_file() or run.suite is not None for run in runs):
        raise DataError(f"--evaluation {evaluation} is for folders of training runs; neither {a} nor {b} is one")
    return runs


def scored_differently(a: ComparedRun, b: ComparedRun) -> str | None:
    """Why the values of both sides are not on one scale, in one sentence; None where nothing says so."""
    if a.suite is not None or b.suite is not None:
        of_a, of_b = (f"the benchmark {run.suite}" if run.suite is not None else "a run's own reward" for run in (a, b))
        reasons = [f"A by {of_a}, B by {of_b}"] if a.suite != b.suite else []
        if a.suite is not None and b.suite is not None and a.judge != b.judge:
            reasons.append(f"A's judge was {a.judge or 'nobody'}, B's {b.judge or 'nobody'}")
    elif a.reward is None or b.reward is None:
        unknown = " and ".join(name for name, run in (("A", a), ("B", b)) if run.reward is None)
        return f"It is not known how {unknown} was scored (no {RECIPE_FILE}): the differences may not be comparable."
    else:
        settings = sorted(_unequal(a.reward, b.reward))
        reasons = [f"their recipes differ in {', '.join(f'reward{name}' for name in settings)}"] if settings else []
    if not reasons:
        return None
    return f"The runs were scored differently ({'; '.join(reasons)}): the differences are not comparable."


def _read(path: Path, evaluation: str | None) -> ComparedRun:
    if path.is_file():
        return _of_file(path)
    if not path.is_dir():
        raise DataError(f"{path} does not exist")
    return _of_benchmark(path) if _is_benchmark(path) else _of_run(path, evaluation)


def _is_benchmark(folder: Path) -> bool:
    return (folder / RESULTS_FILE).is_file()


def _of_benchmark(folder: Path) -> ComparedRun:
    record, answers = read_record(folder)
    judge = record.sampling.get("judge")
    return ComparedRun(
        path=folder,
        name=f"{folder.resolve().name} · {record.suite}",
        measured=f"{record.title}: {record.model}",
        answers=tuple(answers),
        suite=record.suite,
        judge=None if judge is None else str(judge),
    )


def _of_run(folder: Path, evaluation: str | None) -> ComparedRun:
    if not (folder / EVALUATION_FOLDER).is_dir():
        raise DataError(
            f"{folder} has neither {EVALUATION_FOLDER}/ nor {RESULTS_FILE}: give the folder of a training run that was "
            "measured, of a benchmark's run, or one file of an evaluation"
        )
    run = read_run(folder)
    if not run.evaluations:
        raise DataError(f"{folder / EVALUATION_FOLDER} holds no evaluation yet: the run was not measured")
    default = next(iter(run.evaluations)) if len(run.evaluations) == 1 else AFTER
    wanted = default if evaluation is None else evaluation
    if wanted not in run.evaluations:
        raise DataError(f"{folder} has no evaluation {wanted}; --evaluation can name {', '.join(run.evaluations)}")
    return _measured(folder, run.evaluations[wanted], folder.resolve().name, run.recipe)


def _of_file(path: Path) -> ComparedRun:
    result = read_evaluation(path)
    place = path.resolve().parent
    if place.name != EVALUATION_FOLDER:
        return _measured(path, result, path.stem, {})
    return _measured(path, result, place.parent.name, read_run(place.parent).recipe)


def _measured(path: Path, result: EvaluationResult, name: str, recipe: Mapping[str, Any]) -> ComparedRun:
    return ComparedRun(
        path=path,
        name=f"{recipe.get('run', {}).get('name') or name} · {result.name}",
        measured=f"evaluation {result.name} at weight version {result.weight_version}",
        answers=result.answers,
        reward=recipe.get("reward"),
    )


def _unequal(a: Any, b: Any, place: str = "") -> Iterator[str]:
    """The places at which two parts of a recipe differ, as `.judge.model`."""
    if not (isinstance(a, Mapping) and isinstance(b, Mapping)):
        if a != b:
            yield place
        return
    for key in dict.fromkeys([*a, *b]):
        if key not in NOT_OF_THE_SCORE:
            yield from _unequal(a.get(key), b.get(key), f"{place}.{key}")
