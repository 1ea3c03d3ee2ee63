"""`TrainingQueue`: applies the requests of all models, one at a time, models in turn, each model's by number.

Runs on the server's event loop. A lost learner is started anew and the request applied again; after
`serve.training.attempts` losses over one request it fails, so that no request can keep a learner from everybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from failures import LearnerLost
from serve.database.connection import Database
from serve.database.tables import Model, Request
from serve.errors import UserError
from serve.operations.lease import LeaseLost
from serve.operations.logs import tell
from serve.operations.metrics import ServiceMetrics
from serve.settings import TrainingServiceSettings
from serve.training.futures import Done, Futures, Taken, failed
from serve.training.keeper import ModelKeeper
from serve.training.lines import Line, Waiting

KINDS = (
    "create_model",
    "forward_backward",
    "optim_step",
    "save_weights",
    "save_weights_for_sampler",
    "load_weights",
)


class TrainingQueue:
    """All that waits for the learner."""

    def __init__(
        self,
        database: Database,
        futures: Futures,
        keeper: ModelKeeper,
        settings: TrainingServiceSettings,
        metrics: ServiceMetrics,
    ) -> None:
        """Empty; `restore` finds what an earlier server left."""
        self._database, self._futures, self._keeper = database, futures, keeper
        self._settings, self._metrics = settings, metrics
        self._lines: dict[str, Line] = {}
        self._turns: list[str] = []
        self._forgotten: set[int] = set()
        self._held: set[str] = set()
        self._changed = asyncio.Event()
        self.draining = self.idle = False

    async def restore(self) -> None:
        """Take up every request that is on disk without a result."""
        for taken in await asyncio.to_thread(self._futures.queued, KINDS):
            await self.arrived(taken)

    def __len__(self) -> int:
        """How many requests wait."""
        return sum(map(len, self._lines.values()))

    async def arrived(self, taken: Taken) -> None:
        """A request is on disk; it takes its place."""
        line = self._lines.get(taken.subject)
        if line is None:
            found = await asyncio.to_thread(self._line_of, taken.subject)
            line = self._lines.setdefault(taken.subject, found)
        if taken.state == "failed":
            line.settle(taken.seq)
        elif taken.state == "queued" and taken.id not in self._held:  # else it was sent again
            self._held.add(taken.id)
            line.add(Waiting(taken.seq, taken.id, taken.kind, time.monotonic()))
            if taken.subject not in self._turns:
                self._turns.append(taken.subject)
        self._metrics.queued.labels("training").set(len(self))
        self._changed.set()

    def forget(self, number: int) -> None:
        """Take a model out of the learner when nothing else is done there."""
        self._forgotten.add(number)
        self._changed.set()

    async def run(self) -> None:
        """Apply requests until `draining` is set and the one that is being applied has ended."""
        while not self.draining:
            self._changed.clear()
            while self._forgotten:
                await self._keeper.forget(self._forgotten.pop())
            found = self._next()
            if isinstance(found, tuple):
                await self._serve(*found)
                continue
            wait = None if found is None else max(0.0, found - time.monotonic())
            try:
                await asyncio.wait_for(self._changed.wait(), wait)
            except TimeoutError:
                continue
        self.idle = True

    def drain(self) -> None:
        """End `run` after the request that it is at."""
        self.draining = True
        self._changed.set()

    def _next(self) -> tuple[str, Waiting] | float | None:
        """The next model's next request, or the earliest time at which there may be one."""
        now, later = time.monotonic(), list[float]()
        for model_id in list(self._turns):
            found = self._lines[model_id].next(now, self._settings.gap_s)
            if isinstance(found, Waiting):
                self._turns.remove(model_id)  # the others' turn comes first
                self._turns.append(model_id)
                return model_id, found
            if found is None:
                self._turns.remove(model_id)
            else:
                later.append(found)
        return min(later, default=None)

    async def _serve(self, model_id: str, request: Waiting) -> None:
        began = time.monotonic()
        outcome, done = "done", Done(failed("", "server"))
        number = -1
        try:
            model, body = await asyncio.to_thread(self._read, model_id, request.id)
            if body is None:  # sent again just as it ended
                self._settled(model_id, request)
                return
            number = model.number
            done = await self._applied(model, request, body)
        except UserError as error:
            outcome, done = "user", Done(failed(str(error), "user"))
        except LeaseLost:
            raise
        except Exception as error:  # whatever it is, it is this request's result: a 5xx would be asked again for ever
            tell("a request failed", level=40, request=request.id, kind=request.kind, error=repr(error))
            sentence = f"the server failed on this {request.kind} ({type(error).__name__}); its log says why"
            outcome, done = "server", Done(failed(sentence, "server"))
            await self._give_up(number)
        also = self._with_progress(model_id, request, done, outcome)
        await self._futures.end(request.id, done.answer, failed=outcome != "done", also=also)
        self._settled(model_id, request)
        self._count(request, outcome, began)
        if request.kind == "optim_step" and outcome == "done":
            await self._snapshot_when_due(model_id, number)

    def _settled(self, model_id: str, request: Waiting) -> None:
        self._lines[model_id].done(request)
        self._held.discard(request.id)

    async def _applied(self, model: Model, request: Waiting, body: bytes) -> Done:
        """Apply a request, again where the learner was lost over it.

        Raises:
            LearnerLost: it was lost `attempts` times.
        """
        attempt = 0
        while True:
            try:
                held = await self._keeper.bring(model)
                return await self._keeper.apply(model, held, request.kind, body)
            except LearnerLost as loss:
                attempt += 1
                self._metrics.lost.labels("learner").inc()
                tell("the learner was lost", level=30, request=request.id, attempt=attempt, why=str(loss))
                await self._restarted()
                if attempt >= self._settings.attempts:
                    raise

    async def _restarted(self) -> None:
        """Start the learner anew, however often that takes; requests wait meanwhile."""
        pause = 1.0
        while True:
            try:
                return await self._keeper.restart()
            except LearnerLost as loss:
                tell("the learner does not come up", level=40, why=str(loss), again_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(60.0, pause * 2)

    async def _give_up(self, number: int) -> None:
        """After a failure nobody foresaw the learner may hold half of something: take the model from disk next time."""
        try:
            await self._keeper.forget(number)
        except LearnerLost:
            await self._restarted()

    async def _snapshot_when_due(self, model_id: str, number: int) -> None:
        held = self._keeper.held.get(number)
        if held is None or held.steps < self._keeper.due_after:
            return
        try:
            await self._keeper.snapshot(model_id)
        except LearnerLost:
            await self._restarted()
        except OSError as error:
            tell("no snapshot could be written", level=40, model=model_id, why=str(error))

    def _with_progress(self, model_id: str, request: Waiting, done: Done, outcome: str) -> Callable[[Session], None]:
        def write(session: Session) -> None:
            values: dict[str, object] = {"applied": request.seq, "asked_at": time.time()}
            if outcome != "done" and request.seq == 0:
                values["state"] = "failed"
            session.execute(update(Model).where(Model.id == model_id, Model.applied < request.seq).values(values))
            if done.also is not None:
                done.also(session)

        return write

    def _count(self, request: Waiting, outcome: str, began: float) -> None:
        now = time.monotonic()
        self._metrics.requests.labels(request.kind, outcome).inc()
        self._metrics.work_seconds.labels(request.kind).observe(now - began)
        self._metrics.request_seconds.labels(request.kind).observe(now - request.arrived)
        self._metrics.queued.labels("training").set(len(self))

    def _line_of(self, model_id: str) -> Line:
        """A model's line as the database has it; settled are the numbers whose requests failed as they came."""
        with self._database.reading() as session:
            applied = session.scalar(select(Model.applied).where(Model.id == model_id))
            line = Line(-1 if applied is None else applied)
            ended = session.scalars(
                select(Request.seq).where(
                    Request.subject == model_id, Request.seq > line.applied, Request.state != "queued"
                )
            )
            for seq in ended:
                line.settle(seq)
        return line

    def _read(self, model_id: str, request_id: str) -> tuple[Model, bytes | None]:
        """A model, and what a request asks for; None where it has its result."""
        with self._database.reading() as session:
            model = session.scalars(select(Model).where(Model.id == model_id)).one()
            session.expunge(model)
        if model.state in ("failed", "ended"):
            raise UserError(
                f"model {model_id} was {'never made' if model.state == 'failed' else 'ended'}: make another one"
            )
        return model, self._futures.bodies([request_id]).get(request_id)
