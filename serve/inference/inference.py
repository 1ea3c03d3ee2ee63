"""`Inference`: the part of the service that answers chat requests, and counts what a tenant used."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

from fastapi import Response

from actors.rollout.adapter_folder import AdapterFolder
from actors.rollout.talk import TalkPiece, TalkRequest
from recipe import Recipe
from serve.answering import Answering, Talker
from serve.chat import ChatRequest
from serve.conversation import ConversationReader
from serve.database.connection import Database
from serve.errors import ServiceError, UserError
from serve.inference.models import adapter_of
from serve.operations.metrics import ServiceMetrics
from serve.tenants.keys import Caller
from serve.tenants.quotas import charge, check_usage
from serve.training.prompts import PromptReader


class Inference:
    """A part of the service (`serve.training.service.Part`)."""

    def __init__(
        self,
        recipe: Recipe,
        base_name: str,
        database: Database,
        pool: Talker,
        prompts: PromptReader,
        metrics: ServiceMetrics,
    ) -> None:
        """Answer through `pool`, with the processor that reads the training service's prompts too."""
        self.base_name, self._database, self._pool, self._metrics = base_name, database, pool, metrics
        max_pixels = int(recipe.serve.max_megapixels * 1e6)
        reader = ConversationReader(prompts.processor, prompts.config, recipe.policy, prompts.max_length, max_pixels)
        self.answering = Answering(recipe, reader)

    async def start(self) -> None:
        """Nothing to load."""

    async def stop(self) -> None:
        """Let go of the threads."""
        self.answering.close()

    async def respond(self, caller: Caller, wanted: ChatRequest, answer_id: str, arrived: float) -> Response:
        """The answer to a request.

        Raises:
            ServiceError: as `Answering.respond`; 404 for a model that the tenant does not have, 429 beyond its quotas.
        """
        adapter = await asyncio.to_thread(self._admitted, caller, wanted)
        talker = _Counted(self, caller.tenant_id, adapter)
        return await self.answering.respond(caller.tenant_id, wanted, answer_id, talker, arrived)

    def _admitted(self, caller: Caller, wanted: ChatRequest) -> AdapterFolder | None:
        with self._database.reading() as session:
            adapter = adapter_of(session, caller.tenant_id, self.base_name, wanted.model)
            try:
                check_usage(session, caller.tenant_id, caller.quotas, wanted.token_cap or 1, 0)
            except UserError as error:
                raise ServiceError(429, str(error), "insufficient_quota", retry_after_s=60) from None
        return adapter

    def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        """As the pool's."""
        return self._pool.talk(request)

    def count(self, tenant_id: str, prompted: int, sampled: int, images: int) -> None:
        """Charge a tenant."""
        self._metrics.tokens.labels("prompted").inc(prompted)
        self._metrics.tokens.labels("sampled").inc(sampled)
        self._metrics.images.inc(images)
        with self._database.writing() as session:
            charge(session, tenant_id, prompted + sampled, images)


@dataclass
class _Counted:
    """Generates with one adapter for one tenant, and counts what came of it."""

    inference: Inference
    tenant_id: str
    adapter: AdapterFolder | None

    async def talk(self, request: TalkRequest) -> AsyncGenerator[TalkPiece, None]:
        prompted = sampled = 0
        try:
            async with aclosing(self.inference.talk(replace(request, adapter=self.adapter))) as pieces:
                async for piece in pieces:
                    prompted, sampled = prompted + len(piece.prompt_ids), sampled + len(piece.token_ids)
                    yield piece
        finally:
            if prompted:
                await asyncio.to_thread(self.inference.count, self.tenant_id, prompted, sampled, len(request.images))
