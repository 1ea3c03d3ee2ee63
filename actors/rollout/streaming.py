"""How answers leave an engine's actor: those that ended together travel together.

Each object that Ray streams costs both sides something, which short answers feel (`python -m benchmarks.generation`).
An engine still yields answers one by one (`RolloutEngine.generate`), and none waits for another.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from actors.supervision.waiting import batched
from data.rollout import GenerationRequest, Refusal, Rollout


def streaming(engine_class: type[Any]) -> type[Any]:
    """A `RolloutEngine`'s class with `generate_together` beside `generate`; Ray shows it under its own name."""

    class Streaming(engine_class):
        async def generate_together(
            self, requests: Sequence[GenerationRequest]
        ) -> AsyncIterator[list[Rollout | Refusal]]:
            """As `generate`; everything that has ended since the last list, the moment there is something."""
            async for answers in batched(self.generate(requests)):
                yield answers

    Streaming.__name__, Streaming.__qualname__ = engine_class.__name__, engine_class.__qualname__
    return Streaming
