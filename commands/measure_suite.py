"""`evaluate.py SUITE` with a model or a judge: starts what is needed, measures, reports.

A model is a checkpoint folder, a hub name, the folder of a finished run, or the URL of an endpoint. Scoring a
predictions file without a judge never comes here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from actors.interruption import Interruption
from actors.measuring.answerer import Answerer, Asked, EngineAnswerer, Reply
from actors.measuring.benchmark import Asking, Benchmark, measure
from actors.measuring.model_endpoint import ModelEndpoint
from actors.record.run_folder import check_paths
from actors.rollout.engine import engine_of
from actors.rollout.pool import EnginePool
from actors.rollout.rollout import SamplingSettings
from actors.scoring.judge_pool import JudgePool
from actors.waiting import ActorOptions
from cluster.placement import place
from cluster.plan import Role, resource_plan
from cluster.session import session
from commands.model_recipe import is_url, recipe_arguments
from data.errors import DataError
from evaluation.metrics.judging import judge_all
from evaluation.pages.suite_report import write_suite_report
from evaluation.suites.file_scoring import print_scored
from evaluation.suites.record import SuiteRecord
from evaluation.suites.registry import SUITES, suite_of
from policies.model import image_token_ids
from policies.source import check_source, policy_source
from recipe import Recipe, load_recipe


def run(name: str, options: argparse.Namespace) -> int:
    """Measure a model, or have a predictions file judged; the exit code.

    Raises:
        DataError, RewardError, PolicyError, RecipeError: one sentence on what to mend.
        ActorLost, ActorTimeout: an engine stopped answering; run the same command again to go on.
    """
    recipe = load_recipe(recipe_arguments(options.model, options.recipe, options.overrides))
    if not SUITES[name].judged:
        recipe = recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"judge": None})})
    if options.model is None and options.out is None:
        return _judge_file(name, options, recipe)
    check_paths(recipe)
    engine_of(recipe.rollout)
    if options.repeats < 1:
        raise DataError(f"--repeats must be at least 1, got {options.repeats}")
    if options.model is not None and is_url(options.model) and not options.served_model:
        raise DataError(
            "--model is a URL: name what it calls its model with --served-model (serve.app calls it by its run's name)"
        )
    options.out = options.out or _folder(name, recipe, options)
    if getattr(options, "cache", options.out) is None:
        options.cache = Path(recipe.run.root).expanduser()
    benchmark = Benchmark.load(name, options, options.limit, options.seed)
    with _started(recipe, _roles(recipe, options), options.out) as actors:
        record = asyncio.run(_measure(benchmark, recipe, options, actors))
    _print(record, write_suite_report(options.out))
    return 0


class FileAnswerer:
    """An `Answerer` whose answers were given before: those of a predictions file."""

    def __init__(self, texts: dict[str, str]) -> None:
        """Answers by question key."""
        self._texts = texts

    async def answer(
        self, asked: Sequence[Asked], sampling: SamplingSettings, finished: Callable[[Reply], None]
    ) -> None:
        """See `Answerer`; a question that the file does not answer gets no reply."""
        for question, repeat in asked:
            ids = (question.key, *question.file_ids)
            text = next((self._texts[id_] for id_ in ids if id_ in self._texts), None)
            failure = "not_in_the_file" if text is None else None
            finished(Reply(question.key, repeat, text or "", "stop", None, None, 0.0, failure))

    async def stop(self) -> None:
        """Nothing is held."""


def _folder(name: str, recipe: Recipe, options: argparse.Namespace) -> Path:
    label = (options.served_model if is_url(options.model) else Path(options.model).name) or "model"
    return Path(recipe.run.root).expanduser() / "evaluations" / f"{name}-{label.replace('/', '-')}"


def _roles(recipe: Recipe, options: argparse.Namespace) -> list[Role]:
    """What must be started on the cluster."""
    roles: list[Role] = []
    if options.model is not None and not is_url(options.model):
        roles.append("rollout")
    if recipe.reward.judge is not None and recipe.reward.judge.url is None:
        roles.append("judge")
    return roles


@contextmanager
def _started(recipe: Recipe, roles: list[Role], logs: Path | None) -> Iterator[ActorOptions | None]:
    """The cluster with room for some roles; nothing is started where there are none."""
    if not roles:
        yield None
        return
    plan = resource_plan(recipe, roles=roles)
    with session(recipe, logs):
        placement = place(plan, recipe.cluster.placement_timeout_s)
        yield placement.options
        placement.release()


async def _measure(
    benchmark: Benchmark, recipe: Recipe, options: argparse.Namespace, actors: ActorOptions | None
) -> SuiteRecord:
    with Interruption().listen():
        source = _source(benchmark, recipe, options)
        answerer, judge = await asyncio.gather(
            _answerer(benchmark, source, recipe, options, actors), _judge(recipe, actors)
        )
        try:
            return await measure(benchmark, answerer, judge, _asking(recipe, options, source), options.out)
        finally:
            await answerer.stop()
            if judge is not None:
                await judge.stop()


def _source(benchmark: Benchmark, recipe: Recipe, options: argparse.Namespace) -> str:
    """The folder or hub name of the weights, the URL of the endpoint, or the predictions file."""
    if options.model is None or is_url(options.model):
        return str(options.model or options.predictions)
    check_source(recipe.policy)
    corpus = [text for q in benchmark.questions for text in (q.sample.question, q.sample.answer)]
    return policy_source(recipe.policy, Path(recipe.run.root).expanduser(), recipe.run.seed, corpus)


async def _answerer(
    benchmark: Benchmark, source: str, recipe: Recipe, options: argparse.Namespace, actors: ActorOptions | None
) -> Answerer:
    if options.model is None:
        return FileAnswerer(suite_of(benchmark.name).predictions(options).texts)
    if is_url(options.model):
        return ModelEndpoint(options.model, options.served_model or "", recipe.policy)
    assert actors is not None
    engines = await EnginePool.start(recipe, source, actors)
    return EngineAnswerer(engines, image_token_ids(source, recipe.policy), recipe.sync.timeout_s)


async def _judge(recipe: Recipe, actors: ActorOptions | None) -> JudgePool | None:
    if recipe.reward.judge is None:
        return None
    return await JudgePool.start(recipe.reward.judge, Path(recipe.run.root).expanduser(), actors)


def _asking(recipe: Recipe, options: argparse.Namespace, source: str) -> Asking:
    judge = recipe.reward.judge
    prompts = {"prompts": recipe.policy.model_dump(mode="json", exclude={"model", "lora"})}
    return Asking(
        model=str(options.served_model or options.model or options.predictions),
        sampling=SamplingSettings(options.temperature, recipe.rollout.max_tokens, options.seed),
        repeats=options.repeats if options.model is not None else 1,
        judge=None if judge is None else judge.model,
        identity={"source": source, "served": options.served_model, "files": file_marks(Path(source)), **prompts},
    )


def file_marks(source: Path) -> dict[str, list[int]]:
    """Size and time of every file of a checkpoint, or of a predictions file: they change when it is written again."""
    files = [source] if source.is_file() else sorted(source.glob("*")) if source.is_dir() else []
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def _judge_file(name: str, options: argparse.Namespace, recipe: Recipe) -> int:
    """Have a predictions file judged and print what it is worth."""
    if recipe.reward.judge is None:
        raise DataError(
            "a recipe was given to score a predictions file, but nobody judges: name reward.judge.model "
            f"for a benchmark that is judged ({', '.join(key for key, entry in SUITES.items() if entry.judged)})"
        )

    async def judged(actors: ActorOptions | None) -> int:
        judge = await _judge(recipe, actors)
        assert judge is not None
        requests = suite_of(name).judge_requests(options)
        judgements = await judge_all(judge, requests)
        await judge.stop()
        print_scored(suite_of(name).score(options, judgements))
        return 0

    with _started(recipe, _roles(recipe, options), None) as actors:
        return asyncio.run(judged(actors))


def _print(record: SuiteRecord, report: Path) -> None:
    """The figures with their range over the repeats, the report, and, last, one JSON object."""
    for name, figure in record.figures.items():
        if figure is not None:
            over = f"  {figure.low:.4f} to {figure.high:.4f}" if len(figure.repeats) > 1 else ""
            print(f"{name:<44}{figure.mean:>12.4f}{over}")
    for reason, count in record.faults.items():
        print(f"{'fault: ' + reason:<44}{count:>12,}")
    print(f"report: {report}")
    figures = {name: None if figure is None else figure.mean for name, figure in record.figures.items()}
    told = {"suite": record.suite, "questions": record.questions, **figures, "cost": record.cost.model_dump()}
    print(json.dumps(told | {"faults": record.faults}, ensure_ascii=False, allow_nan=False))
