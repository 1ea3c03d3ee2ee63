"""`SharedPrompts`: what an engine is given of a sample, made once for all requests that ask about it.

A group's requests differ in their seeds alone. Text, images and what the processor makes of them cost more than a short
answer does, so they are made once, and let go of when the last of the requests has taken them.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from data.rollout import GenerationRequest
from data.sample import DrivingSample


class SharedPrompts:
    """The prompts of some requests; each request takes its own exactly once."""

    def __init__(self, requests: Iterable[GenerationRequest], make: Callable[[DrivingSample], Awaitable[Any]]) -> None:
        """`make` is called when the first request to a sample takes its prompt; what it raises, all of them raise."""
        self._make = make
        self._left = Counter(request.sample.id for request in requests)
        self._made: dict[str, asyncio.Future[Any]] = {}

    async def take(self, sample: DrivingSample) -> Any:
        """The prompt of a sample. One request that is cancelled meanwhile does not end it for the others."""
        if sample.id not in self._made:
            self._made[sample.id] = asyncio.ensure_future(self._make(sample))
        try:
            return await asyncio.shield(self._made[sample.id])
        finally:
            self._left[sample.id] -= 1
            if self._left[sample.id] == 0:
                del self._made[sample.id]

    def __len__(self) -> int:
        """How many are held."""
        return len(self._made)
