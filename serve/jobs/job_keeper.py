"""`JobKeeper`: brings every job from what it is to what is wanted of it, and its results into the database.

Every round looks at the row, does one thing, and writes what it did. A server that was killed anywhere in between finds
the row, looks at the run of that name, and goes on: the run's name is in the row before the run begins.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial

import yaml
from sqlalchemy import func, select

from commands.script import RETRY
from recipe import Recipe
from rewards.graders import grader_text, read_grader
from serve.database.connection import Database
from serve.database.tables import Job, JobEvent
from serve.jobs.jobs import model_name
from serve.jobs.recipes import grader_path, recipe_path
from serve.jobs.requests import JobRequest
from serve.jobs.results import Found, Kept, adapters, add_event, add_metrics, add_model, copied, metrics_lines
from serve.jobs.runs import Look, Runs
from serve.operations.lease import LeaseHolder, LeaseLost
from serve.operations.logs import tell
from serve.operations.metrics import ServiceMetrics
from serve.training.places import Places

WORKED_ON = ("starting", "running", "stopping")
SCRIPTS = {"supervised": "train_sft.py", "reinforcement": "train_grpo.py"}
PATIENCE_S = 15.0
"""How long the job server may be unreachable before the log says so again."""


class JobKeeper:
    """A part of the service (`serve.training.service.Part`)."""

    def __init__(
        self,
        recipe: Recipe,
        base_name: str,
        database: Database,
        places: Places,
        lease: LeaseHolder,
        metrics: ServiceMetrics,
        runs: Runs,
    ) -> None:
        """Of one service; `runs` is where runs go."""
        self._base_name, self._database, self._places, self._lease = base_name, database, places, lease
        self._metrics, self._runs, self._settings = metrics, runs, recipe.serve.jobs
        self.root = places.root.resolve() / "jobs"
        self.root.mkdir(parents=True, exist_ok=True)
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._logged_at: dict[str, float] = {}

    async def start(self) -> None:
        """Look after jobs from now on."""
        self._task = asyncio.create_task(self._keep())

    async def stop(self) -> None:
        """Runs go on by themselves, or are resumed by the next server."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Something is wanted of a job."""
        self._changed.set()

    async def _keep(self) -> None:
        while True:
            try:
                await self.round()
            except LeaseLost:  # another server looks after them; the service ends itself (`serve.training.service`)
                return
            except Exception as error:  # such as a database that is away; the next round tries again
                self._complain("all", error)
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._settings.poll_s)

    async def round(self) -> None:
        """Look once at every job that has not ended."""
        for job in await asyncio.to_thread(self._of, *WORKED_ON):
            await self._tried(job, self._work_on)
        for job in await asyncio.to_thread(self._startable):
            await self._tried(job, self._begin)

    async def _tried(self, job: Job, work: Callable[[Job], Awaitable[None]]) -> None:
        """Do something for a job; where it fails, the next round tries again: the row says how far it came."""
        try:
            await work(job)
        except LeaseLost:
            raise
        except Exception as error:
            if self._complain(job.id, error):
                await asyncio.to_thread(self._tell_client, job, error)

    def _tell_client(self, job: Job, error: Exception) -> None:
        said = " ".join(str(error).split())[:300]
        with self._database.writing() as session:
            add_event(session, job.id, f"trouble {job.attempt}", f"the cluster does not answer as it should, and is "
                      f"asked again: {said}", level="warn")  # fmt: skip

    def _complain(self, what: str, error: Exception) -> bool:
        """Write to the log, but not every time; whether it wrote."""
        if time.monotonic() < self._logged_at.get(what, 0.0) + PATIENCE_S:
            return False
        self._logged_at[what] = time.monotonic()
        tell(f"jobs could not be looked after: {error!r}"[:500], level=40, job=what)
        return True

    def _of(self, *states: str) -> list[Job]:
        with self._database.reading() as session:
            return list(session.scalars(select(Job).where(Job.state.in_(states)).order_by(Job.number)))

    def _startable(self) -> list[Job]:
        with self._database.reading() as session:
            busy = session.scalar(select(func.count()).select_from(Job).where(Job.state.in_(WORKED_ON))) or 0
            waiting = select(Job).where(Job.state == "queued").order_by(Job.number)
            return list(session.scalars(waiting.limit(max(0, self._settings.max_running - busy))))

    async def _begin(self, job: Job) -> None:
        """Take a job out of the line; its run's name is written down first."""
        if await asyncio.to_thread(self._moved, job, "queued", "starting", "the run is being submitted", True):
            await self._submit(await asyncio.to_thread(self._again, job.id))

    async def _submit(self, job: Job) -> None:
        script = SCRIPTS[JobRequest.model_validate(job.asked).method.type]
        await asyncio.to_thread(self._write_inputs, job)
        await self._runs.submit(run_name(job), script, recipe_path(self.root, job.id), {"job": job.id})
        if await asyncio.to_thread(self._moved, job, "starting", "running", f"run {job.attempt} was submitted"):
            tell("job submitted", job=job.id, run=run_name(job))

    def _write_inputs(self, job: Job) -> None:
        grader, recipe = grader_path(self.root, job.id), recipe_path(self.root, job.id)
        recipe.parent.mkdir(parents=True, exist_ok=True)
        recipe.write_text(job.recipe)
        asked = JobRequest.model_validate(job.asked)
        if asked.grader is not None:
            grader.write_text(grader_text(read_grader(asked.grader)))

    async def _work_on(self, job: Job) -> None:
        if job.state == "starting":
            await self._submit(job)
            return
        await asyncio.to_thread(self._gather, job)
        look = await self._runs.look(run_name(job))
        if look.state in ("waiting", "running"):
            if job.wanted != "run" and job.state == "running":
                await self._runs.stop(run_name(job))
                await asyncio.to_thread(self._moved, job, "running", "stopping", "the run writes its checkpoint")
            return
        await asyncio.to_thread(partial(self._gather, final=look.state == "succeeded"), job)  # what it wrote last
        await asyncio.to_thread(self._ended, job, look)

    def _ended(self, job: Job, look: Look) -> None:
        """A run is over: so is the job, unless it was paused or lost."""
        if look.state == "succeeded":
            self._finish(job, "succeeded", f"the model {model_name(job, self._base_name)} is ready")
        elif job.wanted == "cancel":
            self._finish(job, "cancelled", "cancelled; its checkpoints stay")
        elif job.wanted == "pause":
            self._moved(job, job.state, "paused", "paused; its checkpoint is kept")
        elif look.state in ("gone", "stopped") or look.code == RETRY:
            self._lost(job, look)
        else:
            self._finish(job, "failed", _reason(look), level="error")

    def _lost(self, job: Job, look: Look) -> None:
        """A run lost through no fault of its own goes on from its newest checkpoint, until `attempts` are used up.

        One that is gone because the cluster was started anew does not count, nor one whose pause was taken back.
        """
        fault = look.state != "gone" and job.state != "stopping"
        if fault and job.losses + 1 >= self._settings.attempts:
            self._finish(job, "failed", f"its run was lost {self._settings.attempts} times: {_reason(look)}", "error")
            return
        with self._database.writing() as session:
            self._lease.check(session)
            row = session.scalars(select(Job).where(Job.id == job.id).with_for_update()).one()
            row.state, row.losses = "queued", row.losses + fault
            add_event(session, job.id, f"lost {row.attempt}", "its run was lost: it goes on from its newest checkpoint",
                      level="warn")  # fmt: skip

    def _gather(self, job: Job, *, final: bool = False) -> None:
        """Bring what a run wrote into the database: its metrics, and its adapters, whose files come first."""
        run, supervised = self.root / job.id, JobRequest.model_validate(job.asked).grader is None
        lines, read = metrics_lines(run, supervised, job.lines_read)
        with self._database.reading() as session:  # not the weights: a model that its tenant deleted stays deleted
            known = set(session.scalars(select(JobEvent.source).where(JobEvent.job_id == job.id)))
        kept = list[Kept]()
        for found in adapters(run, final=final):
            if _source(found) not in known:
                with contextlib.suppress(OSError):  # the run keeps its newest checkpoints alone
                    kept.append(copied(found, self._places))
        if not lines and not kept:
            return
        with self._database.writing() as session:
            self._lease.check(session)
            row = session.scalars(select(Job).where(Job.id == job.id)).one()
            add_metrics(session, row, lines, _steps(job, supervised))
            row.lines_read = read
            for one in kept:
                name = model_name(job, self._base_name, None if one.found.final else one.found.step)
                if add_model(session, row, one, name):
                    add_event(session, job.id, _source(one.found), f"{name} can be asked")
                if one.found.final:
                    row.model = name

    def _finish(self, job: Job, state: str, message: str, level: str = "info") -> None:
        with self._database.writing() as session:
            self._lease.check(session)
            row = session.scalars(select(Job).where(Job.id == job.id)).one()
            if state == "succeeded" and row.model is None:
                state, level, message = "failed", "error", "its run ended well and left no adapter"
            row.state, row.finished_at = state, time.time()
            row.error = message if state == "failed" else None
            add_event(session, job.id, state, message, level=level)
        self._metrics.requests.labels("job", state).inc()
        tell("job ended", job=job.id, state=state)

    def _moved(self, job: Job, before: str, after: str, message: str, attempt: bool = False) -> bool:
        """Change a job's state, if it is still what it was; whether it was."""
        with self._database.writing() as session:
            self._lease.check(session)
            row = session.scalars(select(Job).where(Job.id == job.id).with_for_update()).one()
            if row.state != before:
                return False
            row.state = after
            row.attempt += attempt
            row.started_at = row.started_at or time.time()
            add_event(session, job.id, f"{after} {row.attempt}", message)
        return True

    def _again(self, job_id: str) -> Job:
        with self._database.reading() as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()


def run_name(job: Job) -> str:
    """What a job's run is called on the cluster."""
    return f"{job.id}-{job.attempt}"


def _source(found: Found) -> str:
    """What the event of a model is known by."""
    return f"model {'final' if found.final else found.step}"


def _steps(job: Job, supervised: bool) -> int:
    """How many steps it takes in all."""
    recipe = yaml.safe_load(job.recipe)
    return int(recipe["warm_start"]["steps"] if supervised else recipe["run"]["steps"])


def _reason(look: Look) -> str:
    """What a script said last: its own sentence where it ended with one."""
    lines = [line.strip() for line in look.said.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if line.startswith("error: ")), lines[-1] if lines else "")
    return last.removeprefix("error: ")[:500] or f"its script ended with status {look.code}"
