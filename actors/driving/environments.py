"""`Environments`: the workers that hold environments, as a pool that outlives each of them. Lives in the driver."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from actors.driving.worker import EnvironmentWorker, Fault, Moved, Seen
from actors.supervision.care import LOSSES, Care, Counts
from actors.supervision.supervisor import Supervised, Supervisor
from actors.supervision.waiting import one_line
from data.episode import Start
from data.settings import EnvironmentSettings
from recipe import ActorOptions

START_TIMEOUT_S = 120.0
"""Longest wait for a worker's process, which imports numpy and Pillow."""


class Environments:
    """Begins and moves episodes by their keys; each stays on the worker where it began."""

    def __init__(self, settings: EnvironmentSettings, options: ActorOptions, worker_class: type[Any]) -> None:
        """Use `start` instead."""
        self._settings = settings

        def make(index: int) -> list[Any]:
            placed = options("environment", index) | {"runtime_env": {"env_vars": {"OMP_NUM_THREADS": "1"}}}
            return [ray.remote(worker_class).options(**placed).remote(settings)]

        care = Care(START_TIMEOUT_S, settings.restarts, "environment.restarts")
        self._workers = Supervisor("environment worker", settings.workers, make, care)
        self._places: dict[str, tuple[Supervised, int]] = {}

    @classmethod
    async def start(
        cls, settings: EnvironmentSettings, options: ActorOptions, worker_class: type[Any] = EnvironmentWorker
    ) -> Environments:
        """Start the workers.

        Raises:
            ActorTimeout, ActorLost, DataError: a worker did not come up.
        """
        environments = cls(settings, options, worker_class)
        await environments._workers.start()
        return environments

    @property
    def counts(self) -> Counts:
        """What became of the workers and of their episodes."""
        return self._workers.counts

    async def begin(self, folder: str, starts: Mapping[str, Start]) -> dict[str, Seen | Fault]:
        """Begin episodes under their keys, spread over the workers.

        Raises:
            ActorLost: no worker is left.
        """
        await self._workers.choose(START_TIMEOUT_S)
        healthy = self._workers.healthy
        shares: dict[int, dict[str, Start]] = {}
        for place, (key, start) in enumerate(starts.items()):
            member = healthy[place % len(healthy)]
            self._places[key] = (member, member.generation)
            shares.setdefault(member.index, {})[key] = start
        self.counts.asked += len(starts)
        calls = [self._call(index, "begin", folder, share) for index, share in shares.items()]
        return {key: seen for answers in await asyncio.gather(*calls) for key, seen in answers.items()}

    async def move(self, folder: str, answers: Mapping[str, tuple[str, float]]) -> dict[str, Moved | Fault]:
        """Hand each episode its response and the seconds it took."""
        shares: dict[int, dict[str, tuple[str, float]]] = {}
        gone: dict[str, Moved | Fault] = {}
        for key, answer in answers.items():
            member, generation = self._places[key]
            if member.generation == generation:
                shares.setdefault(member.index, {})[key] = answer
            else:
                gone[key] = Fault(f"lost: {member.name} was started again ({member.why})")
        calls = [self._call(index, "move", folder, share) for index, share in shares.items()]
        return gone | {key: moved for found in await asyncio.gather(*calls) for key, moved in found.items()}

    async def forget(self, keys: Sequence[str]) -> None:
        """Let go of episodes that are given up or over."""
        held: dict[int, list[str]] = {}
        for key in keys:
            member, generation = self._places.pop(key)
            if member.generation == generation:
                held.setdefault(member.index, []).append(key)
        await asyncio.gather(*(self._call(index, "forget", own) for index, own in held.items()))

    async def close(self) -> None:
        """End the workers."""
        await self._workers.close()

    async def _call(self, index: int, method: str, *arguments: Any) -> dict[str, Any]:
        """A worker's answer; where it is lost over the call, a fault for each of its episodes."""
        member = self._workers.members[index]
        try:
            found: dict[str, Any] | None = await member.call(self._settings.timeout_s, method, *arguments)
        except LOSSES as error:
            keys = arguments[-1]
            return {key: Fault(f"lost: {one_line(error)}") for key in keys}
        return found or {}
