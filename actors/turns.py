"""`Turns`: learner ranks and engines that have their place on the same devices work one after the other.

With `rollout.on_learners` the first engines lie beside the first learner ranks. They sleep while the learner works, and
the learner puts aside what only learning needs while they generate. Other engines go on all the time. Where no engine
lies there, nothing happens here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from actors.learning.group import LearnerGroup
from actors.rollout.pool import EnginePool
from actors.supervision.waiting import now


class Turns:
    """Whose turn it is."""

    def __init__(self, learners: LearnerGroup, engines: EnginePool) -> None:
        """It is the engines' turn: see `start`."""
        self.learners, self._engines = learners, engines
        self._learning = False
        self.seconds = 0.0
        """What handing over has taken so far."""

    @classmethod
    async def start(cls, engines: EnginePool, learners: Callable[[], Awaitable[LearnerGroup]]) -> Turns:
        """Start the learner while the engines that lie beside it sleep; then it is the engines' turn.

        An engine measures what its device has free when it starts: so they come first, and must have started.
        """
        await engines.rest()
        turns = cls(await learners(), engines)
        await turns._give_back()
        turns.seconds = 0.0
        return turns

    @property
    def shared(self) -> bool:
        """Whether any engine lies beside a learner rank."""
        return self._engines.guests > 0

    @asynccontextmanager
    async def learning(self, *, anew: bool = False) -> AsyncIterator[None]:
        """The learner's turn; one within another changes nothing. With `anew` its ranks are started in it.

        After an error no engine wakes, since ranks that are left over may still hold the memory: the next turn ends it.
        """
        if not self.shared or self._learning:
            yield
            return
        began, self._learning = now(), True
        try:
            await self._engines.rest()
            if not anew:
                await self.learners.all("reload")
            self.seconds += now() - began
            yield
        except BaseException:
            self._learning = False
            raise
        began, self._learning = now(), False
        await self._give_back()
        self.seconds += now() - began

    async def _give_back(self) -> None:
        if self.shared:
            await self.learners.all("offload")
            await self._engines.rise()
