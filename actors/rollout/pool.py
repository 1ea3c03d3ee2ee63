"""`EnginePool`: all rollout engines as the loop sees them. Spreads requests, merges streams, outlives engines.

An engine that dies, hangs or fails is started again by the supervisor; what it had not answered goes to another. It
takes requests again once it holds the current weights (`WeightSync`). Lives in the driver.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any, NamedTuple

from actors.rollout.engine import Ability, InFlight, engine_of, in_flight_of
from actors.rollout.streaming import streaming
from actors.supervision.care import LOSSES, Care, Counts, Probe
from actors.supervision.hosting import Host, in_ray
from actors.supervision.supervisor import Supervised, Supervisor
from actors.supervision.waiting import within
from data.errors import DataError
from data.rollout import GenerationRequest, Refusal, Rollout, SamplingSettings, seed_of
from data.sample import DrivingSample
from failures import RolloutExhausted
from policies.fitting import most_images
from recipe import ActorOptions, Recipe

SEEDS_APART = 1000
"""Between the engines' seeds of two runs, so that no engine of one draws like an engine of the other."""
LIVES_APART = 1_000_003
"""Between the seeds of an engine and of the one that takes its place: it must not draw the same again."""
AHEAD = 2
"""Requests that an engine is handed for each that it decodes at once; the others wait for the engine that is through
first."""
CALLS = 256
"""Calls that an engine takes at once: those with long answers still run when later ones come, and probes between."""
REFILLED_BELOW = 0.75
"""Share of what it may be handed below which an engine gets more: some groups in a call, not each one by itself."""


def refuse(refusal: Refusal) -> None:
    """Make a refusal an error.

    Raises:
        DataError: what the engine says.
    """
    raise DataError(refusal.why)


def _care(recipe: Recipe) -> Care:
    return Care(
        start_timeout_s=recipe.rollout.start_timeout_s,
        restarts=recipe.rollout.restarts,
        budget="rollout.restarts",
        probe=Probe(recipe.rollout.probe_timeout_s, method="health", while_busy=True),
        stop="stop",
        stop_timeout_s=recipe.sync.timeout_s,
        folder=recipe.run.folder,
    )


class Receivers(NamedTuple):
    """Where answers go."""

    finished: Callable[[Rollout], None]
    refused: Callable[[Refusal], None]


class EnginePool:
    """All rollout engines."""

    def __init__(
        self,
        engines: Supervisor,
        timeout_s: float,
        dispatches: int,
        abilities: frozenset[Ability] = frozenset(),
        seed: int = 0,
        in_flight: InFlight = "finish",
        decoded_at_once: int | None = None,
        guests: int = 0,
        invited: int = 0,
    ) -> None:
        """Use `launch` instead."""
        self.engines, self.timeout_s, self.dispatches, self.seed = engines, timeout_s, dispatches, seed
        self.takes_seeds = "seeds" in abilities
        """Whether a request may name a seed."""
        self.in_flight = in_flight
        self.guests = guests
        """The first engines, which lie beside learner ranks and sleep while those work (`rollout.on_learners`)."""
        self.invited = invited
        """How many engines more may join (`rollout.max_engines`)."""
        self._resting = False
        self._most = math.inf if decoded_at_once is None else AHEAD * decoded_at_once
        self._settled, self._handing_out = asyncio.Lock(), asyncio.Lock()
        self._room = asyncio.Event()
        self._numbers = itertools.count()

    @classmethod
    def launch(
        cls,
        recipe: Recipe,
        folder: str,
        options: ActorOptions,
        engine_class: type[Any] | None = None,
        role: str = "rollout",
        host: Host = in_ray,
    ) -> EnginePool:
        """Start the engines' processes, which import what they need while the caller does something else.

        Args:
            recipe: whose engines, at the policy's prompts.
            folder: checkpoint folder or hub name; the model need not be there before the engines are started.
            options: places each actor.
            engine_class: a `RolloutEngine` that takes the same options, in place of the recipe's own.
            role: that of the engines' places.
            host: makes the actors.

        Raises:
            ExtensionError: as `engine_of`.
        """
        settings = recipe.rollout.model_copy(
            update={"max_images": recipe.rollout.max_images or most_images(recipe.data, recipe.policy)}
        )
        recipe = recipe.model_copy(update={"rollout": settings})
        chosen, own, abilities = engine_of(recipe)
        chosen = engine_class or chosen
        environment, actor_class = {"env_vars": chosen.environment(recipe, own)}, streaming(chosen)
        lives: dict[int, Iterator[int]] = defaultdict(itertools.count)

        def make(index: int) -> list[Any]:
            seed = recipe.run.seed * SEEDS_APART + index + next(lives[index]) * LIVES_APART
            placed = options(role, index) | {"runtime_env": environment, "max_concurrency": CALLS}
            return [host(actor_class, placed, f"{role} engine {index}", folder, recipe, own, seed)]

        engines = Supervisor(f"{role} engine", recipe.rollout.engines, make, _care(recipe))
        engines.launch()
        rollout, at_once = recipe.rollout, getattr(own, "max_concurrent", None)
        in_flight = in_flight_of(recipe, abilities)
        guests = rollout.on_learners if role == "rollout" else 0
        invited = (rollout.max_engines or rollout.engines) - rollout.engines
        limits = (rollout.timeout_s, rollout.dispatches, abilities, recipe.run.seed, in_flight, at_once)
        return cls(engines, *limits, guests=guests, invited=invited)

    async def started(self) -> EnginePool:
        """This pool, once every engine holds the model.

        Raises:
            ActorTimeout, ActorLost: an engine did not come up.
        """
        await self.engines.start()
        return self

    def invite(self) -> None:
        """Let further engines join, as many as the recipe allows, each once there is room for it."""
        for _ in range(self.invited):
            self.engines.invite()

    async def rest(self) -> None:
        """Let the guests sleep. What they are at stays with them, and they are handed nothing else until `rise`."""
        self._resting = True
        await self._guests("sleep")

    async def rise(self) -> None:
        """Wake the guests."""
        await self._guests("wake")
        self._resting = False
        self._room.set()

    async def _guests(self, method: str) -> None:
        async def call(member: Supervised) -> None:
            with suppress(*LOSSES):  # it is being started again, and awake then
                await member.call(self.timeout_s, method)

        await asyncio.gather(*(call(member) for member in self.engines.healthy if member.index < self.guests))

    def _takes_work(self, member: Supervised) -> bool:
        return not self._resting or member.index >= self.guests

    @property
    def counts(self) -> Counts:
        """What became of the engines and of their requests."""
        return self.engines.counts

    async def end(self) -> None:
        """Shut the engines' own processes down, then end their actors, so that their places are free again."""
        await self.engines.close()

    def requests(
        self, samples: Sequence[DrivingSample], count: int, sampling: SamplingSettings, draw: str | None = None
    ) -> list[GenerationRequest]:
        """`count` requests for each sample, the requests of one sample side by side.

        With `draw`, which says what they are for, each has a seed of its own (`seed_of`), which is its id, and which it
        names where the engines take seeds. Without it, all name that of `sampling`, and are numbered.
        """
        seen: Counter[str] = Counter()
        made = []
        for sample in (sample for sample in samples for _ in range(count)):
            if draw is None:
                made.append(GenerationRequest(f"r{next(self._numbers)}", sample, sampling))
                continue
            seed = seed_of(self.seed, draw, sample.id, seen[sample.id])
            own = replace(sampling, seed=seed) if self.takes_seeds else sampling
            made.append(GenerationRequest(f"{seed:016x}", sample, own))
            seen[sample.id] += 1
        return made

    async def generate(
        self,
        requests: Sequence[GenerationRequest],
        finished: Callable[[Rollout], None],
        refused: Callable[[Refusal], None] = refuse,
    ) -> None:
        """Hand every request's rollout to `finished` as it ends, or its refusal to `refused`; return when all have.

        A sample's requests, side by side, stay on one engine, which makes their prompt once. Groups go to the engine
        with the least to do, until each has twice what it decodes at once; the others follow as answers come.

        Raises:
            RolloutExhausted: a request was sent `rollout.dispatches` times, and each time its engine was lost.
            ActorLost: no engine is left.
            DataError: an engine refuses a request, unless `refused` takes it.
        """
        hand_on, answering = Receivers(finished, refused), list[asyncio.Task[None]]()
        groups = deque(list(group) for _, group in itertools.groupby(requests, key=lambda one: one.sample.id))
        self.counts.asked += len(requests)
        async with self.settled():
            try:
                async with self._handing_out:  # what was asked for first is handed out first
                    while groups:
                        for member, share in await self._shares(groups):
                            answering.append(asyncio.create_task(self._answer(member, share, hand_on)))
                        await asyncio.sleep(0)  # they count what they ask for
                        for task in answering:
                            if task.done():
                                task.result()  # raises what ended it
                await asyncio.gather(*answering)
            finally:
                for task in answering:
                    task.cancel()

    @asynccontextmanager
    async def settled(self) -> AsyncIterator[None]:
        """Held while requests are in flight and while weights are installed, where responses must finish before."""
        if self.in_flight != "finish":
            yield
            return
        async with self._settled:
            yield

    async def _shares(self, groups: deque[list[GenerationRequest]]) -> list[tuple[Supervised, list[GenerationRequest]]]:
        """Take groups for the engines that have room, at least one; what each is to answer in one call."""
        while True:
            await self.engines.choose(self.engines.care.start_timeout_s)
            awake = filter(self._takes_work, self.engines.healthy)
            free = {one.index: one for one in awake if self._has_room(one.load, groups[0])}
            free = {index: one for index, one in free.items() if one.load <= REFILLED_BELOW * self._most}
            if free:
                break
            self._room.clear()
            await within(self.timeout_s, "a rollout engine with room for more", self._room.wait())
        loads = {index: member.load for index, member in free.items()}
        shares: dict[int, list[GenerationRequest]] = {}
        while groups and self._has_room(loads[index := min(loads, key=lambda one: loads[one])], groups[0]):
            group = groups.popleft()
            shares.setdefault(index, []).extend(group)
            loads[index] += len(group)
        return [(free[index], share) for index, share in shares.items()]

    def _has_room(self, load: int, group: Sequence[GenerationRequest]) -> bool:
        """Whether an engine with so much to do may be handed a group; one that is idle may, however large it is."""
        return load + len(group) <= self._most or load == 0

    async def _answer(self, member: Supervised, share: list[GenerationRequest], hand_on: Receivers) -> None:
        """Have a share answered by an engine; what it had not answered when it was lost goes to another."""
        owed = {request.request_id: request for request in share}
        for again in range(self.dispatches):
            if again:
                member = await self.engines.choose(self.engines.care.start_timeout_s)
            try:
                await self._ask(member, owed, hand_on)
            except LOSSES:
                self.counts.retried += len(owed)
            if not owed:
                return
        self.counts.failed["exhausted"] += len(owed)
        lost = self.engines.members[0].why if len(self.engines.members) == 1 else "see their logs"
        raise RolloutExhausted(
            f"{len(owed)} responses, the first to sample {next(iter(owed.values())).sample.id}, were sent to "
            f"{self.dispatches} engine(s), and each was lost over them ({lost}); rollout.dispatches says how often"
        )

    async def _ask(self, member: Supervised, owed: dict[str, GenerationRequest], hand_on: Receivers) -> None:
        """Ask one engine; each answer is taken from `owed` and handed on as it ends.

        Raises:
            ActorLost, ActorTimeout: the engine is lost; what is left in `owed` is not answered.
        """
        member.load += len(owed)
        try:
            async for answers in member.stream(self.timeout_s, "generate_together", list(owed.values())):
                for answer in answers:
                    request = owed.pop(answer.request_id)
                    member.load -= 1
                    if isinstance(answer, Refusal):
                        self.counts.failed["refused"] += 1
                        hand_on.refused(answer)
                    else:
                        hand_on.finished(replace(answer, seed=request.sampling.seed))
                self._room.set()
        finally:
            member.load -= len(owed)
            self._room.set()
