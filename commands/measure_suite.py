"""`evaluate.py SUITE` with a model or a judge: starts what is needed, measures, reports.

A model is a checkpoint folder, a hub name, the folder of a finished run, or the URL of an endpoint. Scoring a
predictions file without a judge never comes here.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from actors.fitted import fitting_of
from actors.interruption import Interruption
from actors.measuring.answerer import Answerer, Asked, EngineAnswerer, Reply
from actors.measuring.benchmark import Asking, Benchmark, measure
from actors.measuring.model_endpoint import KEY_VARIABLE, ModelEndpoint
from actors.record.run_folder import check_paths
from actors.scoring.judge_pool import JudgePool
from actors.supervision.own_node import on_living_node
from cluster.placement import place
from cluster.plan import Role, check_named, resource_plan
from cluster.session import session
from commands.model_recipe import is_url, recipe_arguments
from commands.suite_run import SuiteRun
from data.errors import DataError
from data.rollout import SamplingSettings
from evaluation.metrics.judging import judge_all
from evaluation.metrics.predictions import PredictionsFile
from evaluation.pages.suite_report import write_suite_report
from evaluation.suites.file_scoring import print_scored
from evaluation.suites.record import SuiteRecord
from evaluation.suites.registry import SUITES, suite_class
from evaluation.suites.suite import Suite, SuiteOptions
from policies.prompt_lengths import PromptLengths
from policies.source import check_source, policy_source
from recipe import ActorOptions, Recipe, load_recipe
from rewards.settings import secret_of


def run(name: str, suite: type[Suite], options: SuiteOptions, how: SuiteRun, file: PredictionsFile | None) -> int:
    """Measure a model, or have a predictions file judged; the exit code.

    Args:
        name: what the suite is called in records.
        suite: one that asks.
        options: the suite's.
        how: how it is measured.
        file: answers that were given before; None where a model is asked.

    Raises:
        DataError, RewardError, PolicyError, RecipeError: one sentence on what to mend.
        ActorLost, ActorTimeout: an engine stopped answering; run the same command again to go on.
    """
    if how.model is not None and is_url(how.model) and (secret := secret_of(how.model)) is not None:
        raise DataError(f"--model holds {secret}, which reports would show: put the key into ${KEY_VARIABLE}")
    recipe = load_recipe(recipe_arguments(how.model, how.recipe, how.overrides))
    if not suite.judged:
        recipe = recipe.model_copy(update={"reward": recipe.reward.model_copy(update={"judge": None})})
    if file is not None and how.out is None:
        return _judge_file(suite(options), recipe, how, file)
    check_paths(recipe)
    check_named(recipe, [])
    if how.model is not None and is_url(how.model) and not how.served_model:
        raise DataError(
            "--model is a URL: name what it calls its model with --served-model (serve.app calls it by its run's name)"
        )
    root = Path(recipe.run.root).expanduser()
    out = how.out or root / "evaluations" / f"{name}-{_label(how)}"
    benchmark = Benchmark.load(name, suite, options, how.seed, how.cache or root)
    with _started(recipe, _roles(recipe, how), out) as actors:
        record = asyncio.run(on_living_node(_Measurement(benchmark, recipe, how, file, out).measure(actors)))
    _print(record, write_suite_report(out))
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


def _label(run: SuiteRun) -> str:
    """The model in the name of a folder."""
    named = run.served_model if run.model is None or is_url(run.model) else Path(run.model).name
    return (named or "model").replace("/", "-")


def _roles(recipe: Recipe, run: SuiteRun) -> list[Role]:
    """What must be started on the cluster."""
    roles: list[Role] = []
    if run.model is not None and not is_url(run.model):
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


@dataclass(frozen=True)
class _Measurement:
    """A benchmark, whom it asks, and where the results go."""

    benchmark: Benchmark
    recipe: Recipe
    run: SuiteRun
    file: PredictionsFile | None
    out: Path

    async def measure(self, actors: ActorOptions | None) -> SuiteRecord:
        with Interruption().listen():
            source = self._source()
            benchmark = self._fitted(source)
            answerer, judge = await asyncio.gather(self._answerer(source, actors), _judge(self.recipe, actors))
            try:
                return await measure(benchmark, answerer, judge, self._asking(source), self.out)
            finally:
                await answerer.stop()
                if judge is not None:
                    await judge.stop()

    def _source(self) -> str:
        """The folder or hub name of the weights, the URL of the endpoint, or the predictions file."""
        if self.file is not None:
            return str(self.file.predictions)
        if self.run.model is not None and is_url(self.run.model):
            return self.run.model
        policy = self.recipe.policy
        check_source(policy)
        corpus = [text for q in self.benchmark.questions for text in (q.sample.question, q.sample.answer)]
        return policy_source(policy, Path(self.recipe.run.root).expanduser(), self.recipe.run.seed, corpus)

    def _fitted(self, source: str) -> Benchmark:
        """The questions that a model here can be asked; elsewhere nobody knows before."""
        if self.file is not None or is_url(source):
            return self.benchmark
        fitting = fitting_of(self.recipe, PromptLengths(source, self.recipe.policy), answers=False)
        return self.benchmark.fitted(fitting, drop=self.recipe.data.unfit == "drop")

    async def _answerer(self, source: str, actors: ActorOptions | None) -> Answerer:
        if self.file is not None:
            return FileAnswerer(self.benchmark.suite(self.benchmark.options).predictions(self.file).texts)
        if is_url(source):
            return ModelEndpoint(source, self.run.served_model or "", self.recipe.policy)
        assert actors is not None
        return await EngineAnswerer.start(self.recipe, source, actors)

    def _asking(self, source: str) -> Asking:
        run, judge = self.run, self.recipe.reward.judge
        prompts = {"prompts": self.recipe.policy.model_dump(mode="json", exclude={"model", "lora"})}
        return Asking(
            model=run.served_model or run.model or source,
            sampling=SamplingSettings(run.temperature, self.recipe.rollout.max_tokens, run.seed),
            repeats=run.repeats if self.file is None else 1,
            judge=None if judge is None else judge.model,
            identity={"source": source, "served": run.served_model, "files": file_marks(Path(source)), **prompts},
            by_model=self.file is None,
        )


async def _judge(recipe: Recipe, actors: ActorOptions | None) -> JudgePool | None:
    if recipe.reward.judge is None:
        return None
    return await JudgePool.start(recipe.reward.judge, Path(recipe.run.root).expanduser(), actors)


def file_marks(source: Path) -> dict[str, list[int]]:
    """Size and time of every file of a checkpoint, or of a predictions file: they change when it is written again."""
    files = [source] if source.is_file() else sorted(source.glob("*")) if source.is_dir() else []
    return {file.name: [file.stat().st_size, file.stat().st_mtime_ns] for file in files}


def _judge_file(suite: Suite, recipe: Recipe, run: SuiteRun, file: PredictionsFile) -> int:
    """Have a predictions file judged and print what it is worth."""
    if recipe.reward.judge is None:
        raise DataError(
            "a recipe was given to score a predictions file, but nobody judges: name reward.judge.model "
            f"for a benchmark that is judged ({', '.join(name for name in SUITES if suite_class(name).judged)})"
        )

    async def judged(actors: ActorOptions | None) -> int:
        judge = await _judge(recipe, actors)
        assert judge is not None
        predictions = suite.predictions(file)
        judgements = await judge_all(judge, suite.judge_requests(predictions))
        await judge.stop()
        print_scored(suite.score(predictions, judgements))
        return 0

    with _started(recipe, _roles(recipe, run), None) as actors:
        return asyncio.run(on_living_node(judged(actors)))


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
    reported = {"suite": record.suite, "questions": record.questions, **figures, "cost": record.cost.model_dump()}
    print(json.dumps(reported | {"faults": record.faults}, ensure_ascii=False, allow_nan=False))
