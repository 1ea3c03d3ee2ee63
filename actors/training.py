"""A whole run, from recipe to report: what `train_grpo.py` and `train_sft.py` call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from actors.crew import Crew, drive_alone, evaluate_alone
from actors.fitted import fitted_data, fitting_of
from actors.inputs import Inputs, check_samples, read_inputs
from actors.interruption import Interruption
from actors.learning.group import LearnerGroup
from actors.loop import reinforce
from actors.measuring.in_loop import InLoop
from actors.pool_states import pool_states
from actors.preflight import on_gpus, try_judge, try_weights
from actors.record.journal import Journal
from actors.record.model_card import CARD_FILE, model_card
from actors.record.provenance import OTHER_DATA, Provenance, known_data, record_provenance
from actors.record.run_folder import check_paths, create_run_folder
from actors.rollout.pool import EnginePool
from actors.supervision.settling import settle
from actors.updates import Updates
from actors.warm_start import Kept, WarmStart
from data.environment import environment_of
from data.episode import RUNS_APART, TRAINING, StartOrder
from data.faults import Faults
from data.formats.format import format_of
from data.load import LoadedData, load_data, with_checked_sweeps
from data.quarantine import Quarantine, list_faults
from data.sample import DrivingSample
from data.sample_store import Joined
from data.split import Order, TaskBalancedOrder, with_a_share
from evaluation.checkpoint_key import checkpoint_key
from evaluation.driving import DrivingResult
from evaluation.held_out import EvaluationResult, choose, with_swapped_images
from evaluation.pages.run_report import write_report
from evaluation.phases import Phases
from evaluation.run_record import POLICY_FOLDER, read_run
from failures import LearnerLost
from policies.prompt import PromptEncoder
from policies.prompt_lengths import PromptLengths
from policies.settings import TINY
from policies.source import check_source, policy_source
from policies.views import missing_views
from recipe import ActorOptions, Recipe


@dataclass(frozen=True)
class Run:
    """A run that was prepared: nothing of it needs a cluster yet."""

    recipe: Recipe
    folder: Path
    inputs: Inputs
    """Data and benchmarks, as far as the model can be asked them."""
    source: str
    """Folder or hub name of the first weights."""
    warm_start: WarmStart
    encoder: PromptEncoder
    """Makes prompts and answers into tokens."""
    provenance: Provenance
    """Where the run comes from."""

    @property
    def data(self) -> LoadedData:
        """The samples."""
        return self.inputs.data

    def order(self, position: int) -> Order:
        """The training order from `position` on: of questions, or of starts in the environment."""
        if self.recipe.environment is not None:
            scenarios = environment_of(self.recipe.environment).scenarios(held_out=False)
            return StartOrder(scenarios, self.recipe.data.seed, position)
        return TaskBalancedOrder(self.data.split.train, self.recipe.data.task_shares, self.recipe.data.seed, position)

    @property
    def probes(self) -> list[DrivingSample]:
        """The training questions, one of each task, whose first tokens every weight sync compares."""
        return list({sample.task: sample for sample in reversed(self.data.split.train)}.values())

    def quarantine(self, journal: Journal) -> Quarantine:
        """Where questions go that cannot be asked any more; each is a warning in the journal."""
        questions = len(self.data.split.train) + len(self.data.split.held_out)

        def warn(sentence: str) -> None:
            journal.warn(journal.step, "quarantine", sentence)

        return Quarantine(self.folder, questions, self.recipe.data.max_refused_share, warn)

    def demonstrated_more(self) -> WarmStart:
        """What more imitation learns from: in an environment the demonstrations of as many fresh scenarios as the
        training drove, beside those of the warm start; else the warm start's own.
        """
        recipe = self.recipe
        if recipe.environment is None:
            return self.warm_start
        count = recipe.environment.demonstrated or recipe.run.steps * recipe.rollout.prompts_per_step
        first = TRAINING + recipe.data.seed * RUNS_APART
        options = recipe.data.options | {"scenarios": count, "first": first}
        fresh = recipe.data.model_copy(update={"options": options})
        source = format_of(fresh)
        samples = list(source.read(Faults(), Path(recipe.run.root).expanduser(), recipe.data.seed))
        return WarmStart([*self.warm_start.samples, *samples], self.data.split.held_out, recipe)

    @property
    def held_out(self) -> list[DrivingSample]:
        """The held-out questions that are asked, the same before and after."""
        return choose(self.data.split.held_out, self.recipe.evaluation.samples_per_task, self.recipe.data.seed)

    @property
    def on_the_way(self) -> list[DrivingSample]:
        """Those of them that are also asked during training."""
        return choose(self.held_out, self.recipe.evaluation.held_out_per_task, self.recipe.data.seed)


def prepare(recipe: Recipe, inputs: Inputs | None = None, *, engines: bool = True) -> Run:
    """Leave out what does not fit, then make the run folder and what lies in it from the beginning.

    Args:
        recipe: what will be run.
        inputs: what was read for it already.
        engines: whether engines will be asked, so that samples must fit them; supervised training has none.

    Raises:
        ExtensionError, DataError, RewardError, PolicyError, RunFolderError, CheckpointError: one sentence on what to
            mend; nothing was started.
    """
    inputs, root = inputs or read_inputs(recipe), Path(recipe.run.root).expanduser()
    source = policy_source(recipe.policy, root, recipe.run.seed, inputs.data.corpus)
    lengths = PromptLengths(source, recipe.policy)
    data = fitted_data(recipe, inputs.data, lengths, engines=engines)
    check_samples(recipe, data)
    asked, drop = fitting_of(recipe, lengths, answers=False, engines=engines), recipe.data.unfit == "drop"
    benchmarks = tuple(one.fitted(asked, drop=drop) for one in inputs.benchmarks if engines)
    samples = Joined(data.split.train, data.split.held_out)
    train, held_out = (with_a_share(part, recipe.data.task_shares) for part in (data.split.train, data.split.held_out))
    warm_start = WarmStart(train, held_out, recipe)
    checkpoint_key(recipe.run.folder)
    folder = create_run_folder(recipe)
    faults = data.faults | missing_views(samples, recipe.policy)
    list_faults(folder, faults)
    earlier = known_data(folder)
    provenance = record_provenance(recipe, samples, folder)
    if earlier is not None and earlier.ground_truth_sha256 != provenance.data.ground_truth_sha256:
        print(OTHER_DATA.format(then=earlier.samples, now=provenance.data.samples), flush=True)
    return Run(recipe, folder, Inputs(data, benchmarks), source, warm_start, lengths.encoder, provenance)


async def run_reinforcement(
    run: Run,
    options: ActorOptions,
    *,
    learner_class: type[Any] | None = None,
    engine_class: type[Any] | None = None,
    engines: EnginePool | None = None,
) -> bool:
    """Warm start, measure, reinforce, measure again, export and report; returns whether all steps were taken.

    `engines` are those that were launched already.

    Raises:
        SyncError, TooManyMasked, ActorLost, ActorTimeout: the run cannot go on; what was recorded stays.
    """
    recipe, interruption, phases = run.recipe, Interruption(), Phases(run.folder)
    with interruption.listen(), Journal(recipe, run.folder) as journal:
        with phases.phase("start"):
            quarantine = run.quarantine(journal)
            crew = await Crew.start(
                recipe, run.source, options, run.probes, run.encoder, quarantine,
                learner_class=learner_class, engine_class=engine_class, engines=engines,
            )  # fmt: skip
            journal.exporter.watch(pool_states(crew))
            if on_gpus(recipe):
                await try_judge(crew, run.probes)
        with phases.phase("warm_start"), interruption.deferred():
            updates = await Updates.begin(crew, run.folder, lambda: first_steps(run, crew, interruption))
            if updates is None or interruption.requested:
                await crew.stop()
                return False
            run.warm_start.forget()
            journal.step = updates.state.step
            if warning := recipe.rollout.cut_sampling:
                journal.warn(journal.step, "cut_sampling", warning)
        with phases.phase("evaluation_before"):
            if updates.state.step == 0:
                await record_evaluation(run, crew, journal, "before")

        def held_out() -> Awaitable[EvaluationResult]:
            return crew.evaluate("on the way", run.on_the_way)

        in_loop = InLoop(recipe, run.inputs.benchmarks, run.folder, options, journal, crew.scorers.judge, held_out)
        settle()
        with phases.phase("reinforcement"), interruption.deferred():
            await reinforce(updates, run.data.split.train, run.order, journal, lambda: interruption.requested, in_loop)
        complete = updates.complete
        with phases.phase("benchmarks"):
            await in_loop.finish(wait=complete)
        with phases.phase("evaluation_after"):
            if complete:
                await record_evaluation(run, crew, journal, "after")
        await export_policy(run, updates.export)
        if complete and recipe.evaluation.control:
            with phases.phase("control"):
                await control(run, updates, journal)
        await crew.stop()
    print(f"report: {write_report(run.folder)}", flush=True)
    return complete


async def train_sft(run: Run, options: ActorOptions) -> bool:
    """Supervised steps on the answers, on the learners alone; leaves the policy and its loss curve.

    Returns whether all steps were taken; where not, a checkpoint is left to go on from, and no policy.
    """
    recipe, interruption, phases = run.recipe, Interruption(), Phases(run.folder)
    with interruption.listen():
        with phases.phase("start"):
            learners = await LearnerGroup.start(recipe, run.source, options)
        with phases.phase("warm_start"), interruption.deferred():
            complete = await warm_up(run, learners, interruption)
        if complete:
            await export_policy(run, learners.export)
            run.warm_start.forget()
            print(f"policy: {run.folder / POLICY_FOLDER}", flush=True)
    return complete


async def evaluate_policy(recipe: Recipe, options: ActorOptions) -> EvaluationResult:
    """Measure `policy.model` as it is on the recipe's held-out questions, with engines alone.

    Raises:
        ExtensionError, DataError, RewardError, PolicyError: one sentence on what to mend.
        ActorLost, ActorTimeout: an engine stopped answering.
    """
    check_paths(recipe)
    root = Path(recipe.run.root).expanduser()
    check_source(recipe.policy)
    data = load_data(recipe.data, root)
    data = with_checked_sweeps(data) if recipe.policy.lidar else data
    source = policy_source(recipe.policy, root, recipe.run.seed, data.corpus)
    lengths = PromptLengths(source, recipe.policy)
    data = fitted_data(recipe, data, lengths)
    asked = choose(data.split.held_out, recipe.evaluation.samples_per_task, recipe.data.seed)
    with Interruption().listen():
        return await evaluate_alone(recipe, source, options, asked, lengths.encoder.special)


async def drive_policy(recipe: Recipe, options: ActorOptions) -> DrivingResult:
    """Measure `policy.model` as it is by its episodes, with engines and environments alone.

    Raises:
        ExtensionError, DataError, PolicyError: one sentence on what to mend.
        ActorLost, ActorTimeout: an engine, or every worker, stopped answering.
    """
    check_paths(recipe)
    check_source(recipe.policy)
    root = Path(recipe.run.root).expanduser()
    corpus = format_of(recipe.data).corpus(()) if recipe.policy.model == TINY else ()
    source = policy_source(recipe.policy, root, recipe.run.seed, corpus)
    with Interruption().listen():
        return await drive_alone(recipe, source, options)


async def first_steps(run: Run, crew: Crew, interruption: Interruption) -> bool:
    """The warm start of a run that begins, the way of the weights tried before; whether all steps were taken."""
    if on_gpus(run.recipe):
        await try_weights(crew)
    return await warm_up(run, crew.learners, interruption)


async def warm_up(run: Run, learners: LearnerGroup, interruption: Interruption) -> bool:
    """Take the supervised steps that are left; whether all were taken."""
    kept = Kept.of(run.recipe.run, lambda: interruption.requested)
    return await run.warm_start.steps(learners, run.encoder, run.recipe.warm_start.steps, kept)


async def record_evaluation(run: Run, crew: Crew, journal: Journal, name: str) -> None:
    """Measure the published policy on the held-out questions, and on swapped images when the recipe asks for it."""
    if not run.recipe.evaluation.before_and_after:
        return
    if crew.driver is not None:
        (await crew.drive(name)).write(run.folder)
        return
    journal.record_evaluation(await crew.evaluate(name, run.held_out))
    if run.recipe.evaluation.swapped_images and name == "after":
        journal.record_evaluation(await crew.evaluate("swapped", with_swapped_images(run.held_out)))


async def control(run: Run, updates: Updates, journal: Journal) -> None:
    """What the same time of more warm start gives instead of RL: from the policy that RL began with.

    The time is that of all steps, also of those before the run was interrupted and resumed.
    """
    seconds = sum(took for _, took in read_run(run.folder).series("step_s"))
    crew = updates.crew
    try:
        shown = await asyncio.to_thread(run.demonstrated_more)
        async with crew.turns.learning():
            await updates.back_to_start()
            await shown.for_seconds(crew.learners, run.encoder, seconds)
        await crew.sync.publish(run.recipe.run.steps + 1)
        await record_evaluation(run, crew, journal, "continued_warm_start")
    except LearnerLost as loss:  # the policy is written already
        journal.warn(journal.step, "control_given_up", f"the control was given up: {loss}")


async def export_policy(run: Run, export: Callable[[Path], Awaitable[None]]) -> None:
    """Write `policy/` in Hugging Face layout, with its model card."""
    folder = run.folder / POLICY_FOLDER
    await export(folder)
    (folder / CARD_FILE).write_text(model_card(run.recipe, run.provenance, read_run(run.folder).evaluations))
