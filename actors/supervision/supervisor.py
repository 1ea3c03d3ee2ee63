"""`Supervisor`: keeps a pool of Ray actors alive, whatever they do. Lives in the driver.

    pool = Supervisor("CLIP actor", 2, make, Care(start_timeout_s=600.0, restarts=3, budget="reward.clip.restarts"))
    await pool.start()
    member = await pool.choose(60.0, key="scene-0061")
    scored = await member.call(60.0, "score", requests)
    await pool.close()

An actor that dies, gives no answer in time or fails in a way that nobody foresaw is lost: it is ended, and started
again until its restarts are used up. What was asked of it fails with one of `LOSSES`; `choose` then names another.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from tenacity import AsyncRetrying, retry_if_exception_type

from actors.supervision.care import LOSSES, Care, Counts, Probe, State
from actors.supervision.hosting import end_actor
from actors.supervision.stacks import Place, keep_stacks, place_of
from actors.supervision.waiting import one_line, stream, within
from failures import ActorLost, ActorTimeout

FAILED_JOINS = 10
"""How often in a row an invited member may fail before it has a place, beyond the pool's restarts."""


class Supervised:
    """A member of a pool: an actor, or the ranks of a group, which live and die together."""

    def __init__(self, pool: Supervisor, index: int, *, invited: bool = False) -> None:
        """Made by the `Supervisor`."""
        self.name, self.index, self.state = f"{pool.name} {index}", index, State.STARTING
        self.invited = invited
        """Whether it is beyond the pool's size; see `Supervisor.invite`."""
        self.actors: list[Any] = []
        self.generation = 0
        """How often it was made; a loss is one of a generation."""
        self.load = 0
        """Calls that are not answered yet; the caller counts them."""
        self.calls = 0
        """Calls under way."""
        self.why = ""
        """The latest loss, in words."""
        self.held = False
        """Whether it is up again, and waits for something that is not its own (`Supervisor.may_return`)."""
        self._pool, self._restarts, self._launched, self._places = pool, 0, False, list[Place]()
        self._lives_on = Counter[str]()

    @property
    def actor(self) -> Any:
        """The handle of the (first) actor."""
        return self.actors[0]

    async def call(self, timeout_s: float, method: str, *arguments: Any, watched: bool = True) -> Any:
        """The answer to one call, waited for at most `timeout_s` seconds; see `watched`.

        Not `watched` is a call of `on_restart`, to a member that is stale; a loss is then that hook's own failure.
        """
        async with self.watched() if watched else contextlib.nullcontext(self.actors) as (actor, *_):
            return await within(timeout_s, f"{self.name} ({method})", getattr(actor, method).remote(*arguments))

    async def stream(self, timeout_s: float, method: str, *arguments: Any, watched: bool = True) -> AsyncIterator[Any]:
        """What a generator method yields, each item waited for at most `timeout_s` seconds; see `call`."""
        async with self.watched() if watched else contextlib.nullcontext(self.actors) as (actor, *_):
            generator = getattr(actor, method).options(num_returns="streaming").remote(*arguments)
            async for item in stream(timeout_s, f"{self.name} ({method})", generator):
                yield item

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[list[Any]]:
        """The actors, for one piece of work that awaits nobody else; if it fails through them, they are lost.

        Raises:
            ActorLost, ActorTimeout: the work failed so, or there was nobody to do it. What an actor raises that a
                person can act on (`actors.supervision.waiting.REPORTED`) is no loss and arrives as itself.
        """
        if self.state is not State.HEALTHY:
            raise ActorLost(f"{self.name} is {self.state}: {self.why}")
        generation = self.generation
        self.calls += 1
        try:
            yield self.actors
        except LOSSES as error:
            self.lose(generation, error)
            raise
        except RayError as error:
            self.lose(generation, error)
            raise ActorLost(f"{self.name}: {one_line(error)}") from error
        finally:
            self.calls -= 1

    def lose(self, generation: int, error: Exception) -> None:
        """Replace what was made as `generation`: once, however many calls find it lost."""
        if generation == self.generation and self.state is State.HEALTHY and self._bury(error):
            self._pool.begin(self.come())

    def launch(self) -> None:
        """Make the actors anew: their constructors run while the caller does something else."""
        self.generation += 1
        self.actors, self._launched = self._pool.make(self.index), True

    async def open(self) -> None:
        """Make the actors anew, unless that was just done, and wait until they have started. Raises as `within`."""
        if not self._launched:
            self.launch()
        self._launched = False
        await within(self._pool.care.start_timeout_s, f"{self.name} (starting)", self._start())

    async def _start(self) -> None:
        await self._pool.start_member(self)
        self._places = await asyncio.gather(*map(place_of, self.actors))

    async def end(self, *, well: bool) -> None:
        """Stop the actors in good order where they are well, and kill them in any case."""
        care = self._pool.care
        try:
            if well and care.stop is not None:
                stopping = asyncio.gather(*(getattr(actor, care.stop).remote() for actor in self.actors))
                with contextlib.suppress(*LOSSES, RayError):  # it is killed all the same
                    await within(care.stop_timeout_s, f"{self.name} ({care.stop})", stopping)
        finally:
            self._kill()

    async def probe(self, probe: Probe) -> None:
        """Ask the actors whether they are well; whatever comes instead of an answer in time is a loss."""
        generation = self.generation
        asked = asyncio.gather(*(getattr(actor, probe.method).remote() for actor in self.actors))
        try:
            await within(probe.timeout_s, f"{self.name} (probe)", asked)
        except Exception as error:  # kept in `why`
            self.lose(generation, error)

    async def come(self) -> None:
        """Start until the restarts are used up, and become what a member must be; a hook's failure is one more loss."""
        care, hook, again = self._pool.care, self._pool.on_restart, True
        while again:
            if self._restarts:
                await asyncio.sleep(min(care.longest_backoff_s, care.backoff_s * 2.0 ** (self._restarts - 1)))
            self._restarts += 1
            try:
                if self.invited:
                    await self._find_place()
                self._become(State.RESTARTING)
                await self.open()
                if hook is not None:
                    self._become(State.STALE)
                    if self._pool.may_return is not None:
                        self.held = True  # until it becomes something else, whatever that is
                        await self._pool.may_return()
                    await within(care.start_timeout_s, f"{self.name} (coming back)", hook(self))
            except Exception as error:  # kept in `why`, and reported when the member is given up
                again = self._bury(error)
            else:
                self._has_come()
                return

    async def _find_place(self) -> None:
        """Wait for room, for as long as the pool lives.

        Ray keeps what it has no room for, asks the autoscaler for a node, and goes on when one joins. Restarts count
        for each node, since a node that leaves says nothing of the member.

        Raises:
            ActorLost: its restarts on that node are used up.
        """
        self._become(State.WAITING)
        self.launch()
        self._places = await asyncio.gather(*map(place_of, self.actors))
        node = self._places[0].node
        self._lives_on[node] += 1
        self._restarts = self._lives_on[node] - 1
        if self._restarts > self._pool.care.restarts:
            self._restarts = self._most_restarts
            raise ActorLost(f"its restarts on node {node} are used up ({self._pool.care.budget})")

    @property
    def _most_restarts(self) -> int:
        """Starts in a row that may fail; those of an invited member before it has a place say little."""
        return self._pool.care.restarts + (FAILED_JOINS if self.invited else 0)

    def _has_come(self) -> None:
        if self.invited:
            self._pool.counts.joined += 1
            print(f"{self.name} joined", flush=True)
        else:
            self._pool.counts.restarted += 1
        self._become(State.HEALTHY)

    def _bury(self, error: Exception) -> bool:
        """End what is left of a lost member; whether it may be started again."""
        self.why = one_line(error)
        self._pool.counts.lost += 1
        if self.invited:
            print(f"{self.name} {'left' if self.state is State.HEALTHY else 'could not join'}: {self.why}", flush=True)
        if isinstance(error, ActorTimeout) and self._pool.care.folder is not None:
            self._pool.begin(self._read_and_kill(self._pool.care.folder, self.actors))
        else:
            self._kill()
        again = self.state is not State.STOPPED and self._restarts < self._most_restarts
        self._become(State.DEAD if again else State.GIVEN_UP)
        return again

    async def _read_and_kill(self, folder: Path, actors: list[Any]) -> None:
        try:
            await keep_stacks(folder, self.name, self._places)
        finally:
            for actor in actors:
                end_actor(actor)

    def _kill(self) -> None:
        for actor in self.actors:
            end_actor(actor)

    def _become(self, state: State) -> None:
        self.held = False
        if self.state is not State.STOPPED:
            self.state = state
            self._pool.tell()


async def _start_all(member: Supervised) -> None:
    await asyncio.gather(*(actor.start.remote() for actor in member.actors))


class Supervisor:
    """A pool of actors that are alike."""

    def __init__(
        self,
        name: str,
        size: int,
        make: Callable[[int], list[Any]],
        care: Care,
        counts: Counts | None = None,
        *,
        start_member: Callable[[Supervised], Awaitable[Any]] = _start_all,
        on_restart: Callable[[Supervised], Awaitable[Any]] | None = None,
    ) -> None:
        """Plan a pool; `start` makes it.

        Args:
            name: how messages call one member, with its index behind.
            size: how many members.
            make: from an index to the handles of a new actor, or of all ranks of a group.
            care: time limits and budgets.
            counts: where losses and restarts are counted.
            start_member: makes new actors ready; left out, it calls `start` on each.
            on_restart: what a member that was started again needs before it gets work; if it fails, the member is lost
                once more. The member is stale meanwhile, and the hook's calls are not `watched`.
        """
        self.name, self.make, self.care, self.counts = name, make, care, counts or Counts()
        self.start_member, self.on_restart = start_member, on_restart
        self.may_return: Callable[[], Awaitable[Any]] | None = None
        """Awaited before `on_restart`; what it waits for has time limits of its own."""
        self.members = [Supervised(self, index) for index in range(size)]
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def launch(self) -> None:
        """Make every member's actors; `start` waits until they are ready."""
        for member in self.members:
            member.launch()

    async def start(self) -> None:
        """Start every member. If one fails, none stays.

        Raises:
            ActorTimeout, ActorLost: a member did not come up.
            Exception: what it raised while it started.
        """
        try:
            await asyncio.gather(*(member.open() for member in self.members))
        except BaseException:
            await self.close()
            raise
        for member in self.members:
            member.state = State.HEALTHY
        if self.care.probe is not None:
            self.begin(self._keep_probing(self.care.probe))

    def invite(self) -> None:
        """Plan one member more, for which there may be no room yet, and which may leave again with its node.

        It is made when the cluster has a place for it, becomes what it must be by `on_restart`, and takes work then.
        What happens to it ends nothing, but it holds the room that it was given: see docs/reliability.md. On each node
        it may be started again `restarts` times.
        """
        self.members.append(member := Supervised(self, len(self.members), invited=True))
        self.begin(member.come())

    @property
    def healthy(self) -> list[Supervised]:
        """The members that take work."""
        return [member for member in self.members if member.state is State.HEALTHY]

    @property
    def exhausted(self) -> bool:
        """Whether nobody is left, nor surely comes back."""
        return all(member.state in (State.GIVEN_UP, State.STOPPED, State.WAITING) for member in self.members)

    async def choose(self, timeout_s: float, key: str | None = None) -> Supervised:
        """A healthy member; while there is none, wait for one to come back.

        Args:
            timeout_s: longest wait in seconds.
            key: what always goes to the same member while that one is healthy; None takes the one with the least to do.

        Raises:
            ActorLost: none will come back (`exhausted`).
            ActorTimeout: none came back in time, nor is held back by others.
        """
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    while (found := self._best(key)) is None:
                        await self._changed.wait()
                    return found
            except TimeoutError:
                if not any(member.held for member in self.members):
                    raise ActorTimeout(f"no {self.name} came back within {timeout_s:g} s") from None

    def attempts(self, count: int) -> AsyncRetrying:
        """Does something up to `count` times while actors are lost over it, and no more when nobody is left."""

        def count_one(_: Any) -> None:
            self.counts.retried += 1

        return AsyncRetrying(
            retry=retry_if_exception_type(LOSSES),
            stop=lambda state: state.attempt_number >= count or self.exhausted,
            before_sleep=count_one,
            reraise=True,
        )

    async def close(self) -> None:
        """End the actors; every caller that waits for one, or for an answer, gets `ActorLost`."""
        well = self.healthy
        for member in self.members:
            member.state, member.why = State.STOPPED, "stopped"
        self.tell()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.gather(*(member.end(well=member in well) for member in self.members))

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something in the background until the pool is closed."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def tell(self) -> None:
        """Wake those that wait for a member."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _best(self, key: str | None) -> Supervised | None:
        if self.exhausted:
            fates = "; ".join(f"{member.name}: {member.why}" for member in self.members)
            raise ActorLost(f"no {self.name} is left ({self.care.budget}: {self.care.restarts}; {fates})")
        if key is None:
            return min(self.healthy, key=lambda member: (member.load, member.calls), default=None)
        first = zlib.crc32(key.encode()) % len(self.members)
        in_turn = [*self.members[first:], *self.members[:first]]
        return next((member for member in in_turn if member.state is State.HEALTHY), None)

    async def _keep_probing(self, probe: Probe) -> None:
        while True:
            await asyncio.sleep(probe.interval_s)
            await asyncio.gather(*(one.probe(probe) for one in self.healthy if probe.while_busy or not one.calls))
