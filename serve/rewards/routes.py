"""The routes of rewards: ours, and OpenAI's for trying a grader."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter

from serve.chat import json_object, read_as
from serve.errors import ServiceError
from serve.rewards.requests import MOST_TEXT, RewardRequest
from serve.rewards.reward_pool import RewardPool
from serve.training.calls import Call, needs

router = APIRouter(prefix="/v1")
SampleCall = Annotated[Call, needs("sample")]


@router.post("/rewards")
async def rewards(call: SampleCall) -> dict[str, Any]:
    """What answers are worth, with the parts of each score."""
    call.open()
    body = await call.body()
    asked: RewardRequest = await asyncio.to_thread(lambda: read_as(RewardRequest, json_object(body)))
    return {"object": "list", "data": await call.service.part(RewardPool).scored(call.tenant, asked)}


@router.post("/fine_tuning/alpha/graders/validate")
async def validate(call: SampleCall) -> dict[str, Any]:
    """Whether a grader is one, and could be used in a job here."""
    given = json_object(await call.body()).get("grader")
    found = call.service.part(RewardPool).grader(given)
    return {"grader": found.grader.model_dump(mode="json", exclude_none=True)}


@router.post("/fine_tuning/alpha/graders/run")
async def run(call: SampleCall) -> dict[str, Any]:
    """What a grader says of one answer."""
    call.open()
    given = json_object(await call.body())
    item, output = given.get("item") or {}, given.get("model_sample")
    if not isinstance(item, dict):
        raise ServiceError(400, "item: an object is needed", "invalid_request", "item")
    if not isinstance(output, str):
        raise ServiceError(400, "model_sample: the text of the answer is needed", "invalid_request", "model_sample")
    if any(len(text) > MOST_TEXT for text in (output, *item.values()) if isinstance(text, str)):
        raise ServiceError(400, f"item, model_sample: a text may have {MOST_TEXT} characters", "too_long", "item")
    return await call.service.part(RewardPool).graded(call.tenant, given.get("grader"), output, item)
