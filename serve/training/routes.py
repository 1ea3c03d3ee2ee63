"""Tinker's routes that train and sample. Each reads its message, says whose it is, and puts a request on disk."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Header, Response
from fastapi.responses import JSONResponse
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from serve.database.tables import ClientSession, Model, Sampler
from serve.errors import ServiceError, UserError
from serve.tenants.quotas import charge, check_models, check_storage, check_usage
from serve.training import submissions
from serve.training.calls import Call, needs
from serve.training.futures import Work
from serve.training.messages import (
    CreateModel,
    CreateSampler,
    CreateSession,
    LoadWeights,
    OfModel,
    OfSession,
    OptimStep,
    Retrieve,
    SaveWeights,
    SaveWeightsForSampler,
)
from serve.training.weights import find_weights, sampler_id
from serve.training.wire import MEDIA_TYPE, read_forward_backward

router = APIRouter(prefix="/api/v1")
TrainCall = Annotated[Call, needs("train")]
SampleCall = Annotated[Call, needs("sample")]
AnyCall = Annotated[Call, needs(None)]
SEEN_S = 30.0
"""How exactly a session's last sign of life is known."""
NUMBER = re.compile(r"[0-9]{1,19}")


@router.post("/client/config")
async def config(call: AnyCall) -> dict[str, Any]:
    """How the client should behave."""
    return {"parallel_fwdbwd_chunks": True, "proto_compress_fwdbwd": False, "use_pyqwest_transport": True}


@router.post("/client/dynamic_config")
async def dynamic_config(call: AnyCall) -> dict[str, Any]:
    """The same, asked again now and then."""
    return {"refresh_interval_sec": 3600}


@router.post("/telemetry")
async def telemetry(call: AnyCall) -> dict[str, str]:
    """Accepted and thrown away: it holds stack traces of the client's program."""
    return {"status": "accepted"}


@router.get("/get_server_capabilities")
async def capabilities(call: AnyCall) -> dict[str, Any]:
    """What is served."""
    service = call.service
    model = {
        "model_name": service.base_name,
        "max_context_length": service.max_length,
        "trainable": True,
        "sampleable": True,
    }
    return {"supported_models": [model]}


@router.post("/create_session")
async def create_session(call: AnyCall, x_idempotency_key: Annotated[str | None, Header()] = None) -> dict[str, Any]:
    """The one creation without a number: known again by the idempotency key."""
    asked: CreateSession = submissions.read(CreateSession, submissions.object_of(await call.body()))
    key = (x_idempotency_key or secrets.token_hex(16))[:200]
    call.open()

    def create(session: Session) -> str:
        known = session.scalar(
            select(ClientSession.id).where(ClientSession.tenant_id == call.tenant, ClientSession.idempotency_key == key)
        )
        if known is not None:
            return known
        made, now = str(uuid.uuid4()), time.time()
        session.add(ClientSession(id=made, tenant_id=call.tenant, idempotency_key=key, about=asked.model_dump(),
                                  created_at=now, seen_at=now, finished_at=None))  # fmt: skip
        call.note(session, "create_session", made)
        return made

    return {"type": "create_session", "session_id": await call.written(create)}


@router.post("/session_heartbeat")
async def heartbeat(call: AnyCall) -> dict[str, Any]:
    """The client lives."""
    asked: OfSession = submissions.read(OfSession, submissions.object_of(await call.body()))
    found: ClientSession = await call.found(lambda session: call.own_session(session, asked.session_id))
    if found.finished_at is not None:
        raise ServiceError(410, f"session {asked.session_id} has ended: create another", "session_ended")
    if found.seen_at < time.time() - SEEN_S:
        seen = update(ClientSession).where(ClientSession.id == found.id).values(seen_at=time.time())
        await call.written(lambda session: session.execute(seen))
    return {"type": "session_heartbeat"}


@router.post("/sessions/{session_id}/finish")
async def finish(call: AnyCall, session_id: str) -> dict[str, Any]:
    """The client is done; its models leave the learner."""

    def end(session: Session) -> list[int]:
        found = call.own_session(session, session_id)
        if found.finished_at is None:
            found.finished_at = time.time()
            call.note(session, "finish_session", session_id)
        models = session.scalars(select(Model).where(Model.session_id == session_id, Model.state == "ready")).all()
        for model in models:
            model.state = "ended"
        return [model.number for model in models]

    for number in await call.written(end):
        call.service.training.forget(number)
    return {}


@router.post("/create_model")
async def create_model(call: TrainCall) -> dict[str, Any]:
    """A new adapter on the base."""
    given = submissions.object_of(await call.body())
    asked: CreateModel = submissions.read(CreateModel, given)
    subject = f"{asked.session_id}:train:{asked.model_seq_id}"
    await call.found(lambda session: call.own_session(session, asked.session_id))

    def check(session: Session) -> None:
        if asked.base_model != call.service.base_name:
            raise UserError(f"base_model: {asked.base_model[:300]!r} is not served here; {call.service.base_name!r} is")
        if asked.optimizer_config.type != "adamw":
            raise UserError(f"optimizer_config: {asked.optimizer_config.type!r} is not served here; adamw is")
        lora, most = asked.lora_config, call.service.settings.training.max_rank
        if lora is None or lora.rank > most:
            what = "is missing" if lora is None else f"has rank {lora.rank}"
            raise UserError(f"lora_config {what}: adapters of a rank up to {most} are served (serve.training.max_rank)")
        targets = ["attention"] * lora.train_attn + ["mlp"] * lora.train_mlp
        if not targets:
            raise UserError("lora_config: set train_attn or train_mlp; the unembedding alone cannot be trained here")
        check_models(session, call.tenant, call.caller.quotas)
        seed = lora.seed if lora.seed is not None else secrets.randbits(31)
        settings = {"rank": lora.rank, "seed": abs(seed) % 2**31, "targets": targets}
        session.add(new_model(call, subject, asked.session_id, settings, asked.user_metadata))

    taken = await call.submitted(submissions.plain("create_model", subject, 0, CreateModel, given), check)
    return {"request_id": taken.id, "model_id": subject}


def new_model(call: Call, model_id: str, session_id: str, settings: dict[str, Any], about: Any) -> Model:
    """The row of a model that was asked for."""
    now = time.time()
    return Model(id=model_id, tenant_id=call.tenant, session_id=session_id, base_model=call.service.base_name,
                 settings=settings, about=about or {}, state="asked", applied=-1, snapshot=-1, snapshot_folder=None,
                 steps=0, created_at=now, asked_at=now)  # fmt: skip


@router.post("/get_info")
async def get_info(call: AnyCall) -> dict[str, Any]:
    """What a model is, and where its tokenizer is loaded from."""
    asked: OfModel = submissions.read(OfModel, submissions.object_of(await call.body()))
    model: Model = await call.found(lambda session: call.own_model(session, asked.model_id))
    return {
        "type": "get_info",
        "model_id": model.id,
        "model_name": model.base_model,
        "is_lora": True,
        "lora_rank": model.settings["rank"],
        "model_data": {"arch": "lora", "model_name": model.base_model, "tokenizer_id": call.service.base},
    }


@router.post("/forward_backward")
async def forward_backward(call: TrainCall) -> dict[str, Any]:
    """Gather a gradient, or only look."""
    message = await asyncio.to_thread(read_forward_backward, await call.body())
    if message.seq_id < 1:
        raise ServiceError(422, "seq_id must be 1 or more", "bad_body")
    await call.found(lambda session: call.own_model(session, message.model_id))
    asked, tokens, images = await asyncio.to_thread(submissions.forward_backward, message, call.service.settings)
    taken = await call.submitted(asked, in_time(call, asked.subject, asked.seq, tokens, images))
    return {"request_id": taken.id}


def in_time(call: Call, model_id: str, seq: int, tokens: int = 0, images: int = 0) -> Work:
    """What a model's request must fulfil besides being well formed."""

    def check(session: Session) -> None:
        model = call.own_model(session, model_id)
        if seq <= model.applied:
            raise UserError(
                f"seq_id {seq} comes too late: {model.applied} was applied already; use one client for each model, and "
                "one number for each call"
            )
        if tokens or images:
            check_usage(session, call.tenant, call.caller.quotas, tokens, images)
            charge(session, call.tenant, tokens, images)

    return check


@router.post("/optim_step")
async def optim_step(call: TrainCall) -> dict[str, Any]:
    """Apply what was gathered."""
    given = submissions.object_of(await call.body())
    if "adam_params" not in given:
        given["adam_params"] = given.get("optimizer_params")
    model_id, seq = await numbered(call, given)
    asked = submissions.plain("optim_step", model_id, seq, OptimStep, given)
    return {"request_id": (await call.submitted(asked, in_time(call, model_id, seq))).id}


@router.post("/save_weights")
async def save_weights(call: TrainCall) -> dict[str, Any]:
    """Keep a checkpoint to train on from."""
    given = submissions.object_of(await call.body())
    model_id, seq = await numbered(call, given)
    asked = submissions.plain("save_weights", model_id, seq, SaveWeights, given)
    return {"request_id": (await call.submitted(asked, room_for(call, model_id, seq))).id}


@router.post("/save_weights_for_sampler")
async def save_weights_for_sampler(call: TrainCall) -> dict[str, Any]:
    """Keep a checkpoint to sample from."""
    given = submissions.object_of(await call.body())
    model_id, seq = await numbered(call, given)
    asked = submissions.plain("save_weights_for_sampler", model_id, seq, SaveWeightsForSampler, given)

    def check(session: Session) -> None:
        room_for(call, model_id, seq)(session)
        if given.get("path") is None and given.get("sampling_session_seq_id") is None:
            raise UserError("give path, or sampling_session_seq_id for a sampler at once")

    return {"request_id": (await call.submitted(asked, check)).id}


def room_for(call: Call, model_id: str, seq: int) -> Work:
    """As `in_time`, and there is room for another checkpoint."""

    def check(session: Session) -> None:
        in_time(call, model_id, seq)(session)
        check_storage(session, call.tenant, call.caller.quotas)

    return check


@router.post("/load_weights")
async def load_weights(call: TrainCall) -> dict[str, Any]:
    """Go on from a checkpoint, in a model that is there or in a new one."""
    given = submissions.object_of(await call.body())
    asked: LoadWeights = submissions.read(LoadWeights, given)
    if asked.session_id is None or asked.model_seq_id is None:
        model_id, seq = await numbered(call, given)
        plain = submissions.plain("load_weights", model_id, seq, LoadWeights, given)
        return {"request_id": (await call.submitted(plain, in_time(call, model_id, seq))).id}
    session_id, subject = asked.session_id, f"{asked.session_id}:train:{asked.model_seq_id}"
    await call.found(lambda session: call.own_session(session, session_id))

    def create(session: Session) -> None:
        if asked.base_model not in (None, call.service.base_name):
            raise UserError(f"base_model: {asked.base_model!r} is not served here; {call.service.base_name!r} is")
        check_models(session, call.tenant, call.caller.quotas)
        found = find_weights(call.service.database, call.tenant, asked.path)
        session.add(new_model(call, subject, session_id, found.settings, asked.user_metadata))

    plain = submissions.plain("load_weights", subject, 0, LoadWeights, given)
    return {"request_id": (await call.submitted(plain, create)).id, "model_id": subject}


async def numbered(call: Call, given: dict[str, Any]) -> tuple[str, int]:
    """The model and the number of a call; without both it can have no future.

    Raises:
        ServiceError: 422, one is missing; 404, there is no such model.
    """
    model_id, seq = given.get("model_id"), given.get("seq_id")
    if not isinstance(model_id, str) or isinstance(seq, bool) or not isinstance(seq, int) or not 1 <= seq < 2**63:
        raise ServiceError(422, "model_id and seq_id (1 or more) must be given", "bad_body")
    await call.found(lambda session: call.own_model(session, model_id))
    return model_id, seq


@router.post("/create_sampling_session")
async def create_sampling_session(call: SampleCall) -> dict[str, Any]:
    """A sampler of the base, or of a checkpoint."""
    asked: CreateSampler = submissions.read(CreateSampler, submissions.object_of(await call.body()))
    service, subject = call.service, sampler_id(asked.session_id, asked.sampling_session_seq_id)
    call.open()

    def create(session: Session) -> str:
        call.own_session(session, asked.session_id)
        known = session.get(Sampler, subject)
        if known is not None:
            if known.weights_path != asked.model_path:
                raise ServiceError(422, f"number {asked.sampling_session_seq_id} is another sampler's", "number_used")
            return known.id
        number = None
        if asked.model_path is not None:
            try:
                number = find_weights(service.database, call.tenant, asked.model_path).number
            except UserError as error:
                raise ServiceError(404, str(error), "no_weights") from None
        elif asked.base_model != service.base_name:
            raise ServiceError(
                404, f"base_model: {asked.base_model!r} is not served here; {service.base_name!r} is", "no_base"
            )
        made = Sampler(id=subject, tenant_id=call.tenant, session_id=asked.session_id, base_model=service.base_name,
                       weights_path=asked.model_path, weights_number=number, created_at=time.time())  # fmt: skip
        session.add(made)
        call.note(session, "create_sampler", subject)
        return subject

    return {"type": "create_sampling_session", "sampling_session_id": await call.written(create)}


@router.get("/samplers/{sampler}")
async def get_sampler(call: AnyCall, sampler: str) -> dict[str, Any]:
    """What a sampler samples from."""
    found: Sampler = await call.found(lambda session: call.own_sampler(session, sampler))
    return {"sampler_id": found.id, "base_model": found.base_model, "model_path": found.weights_path}


@router.post("/asample")
async def asample(call: SampleCall) -> dict[str, Any]:
    """Some sequences after a prompt."""
    given = submissions.object_of(await call.body())
    sampler, seq = given.get("sampling_session_id"), given.get("seq_id")
    if not isinstance(sampler, str) or isinstance(seq, bool) or not isinstance(seq, int) or not 0 <= seq < 2**63:
        raise ServiceError(422, "sampling_session_id and seq_id (0 or more) must be given", "bad_body")
    await call.found(lambda session: call.own_sampler(session, sampler))
    asked, tokens, images = await asyncio.to_thread(submissions.sampling, given, sampler, seq, call.service.settings)

    def check(session: Session) -> None:
        check_usage(session, call.tenant, call.caller.quotas, tokens, images)
        charge(session, call.tenant, tokens, images)

    taken = await call.submitted(asked, check)
    count = given.get("num_samples", 1)
    most = call.service.settings.training.max_samples
    numbers = range(count) if isinstance(count, int) and 0 <= count <= most else range(1)
    return {"request_id": taken.id, "sample_sequence_ids": [f"{taken.id}:{number}" for number in numbers]}


@router.post("/retrieve_future")
async def retrieve_future(call: AnyCall) -> Response:
    """The result of a request. Held while there is none: a client answered at once asks again fifty times a second."""
    asked: Retrieve = submissions.read(Retrieve, submissions.object_of(await call.body()))
    hold = call.service.settings.training.hold_s
    answer = await call.service.futures.awaited(call.caller, asked.request_id, hold)
    if answer is None:
        return JSONResponse({"type": "try_again", "request_id": asked.request_id, "queue_state": "active"})
    if answer.media_type == MEDIA_TYPE and MEDIA_TYPE not in call.request.headers.get("accept", ""):
        raise ServiceError(406, f"this result is sent as {MEDIA_TYPE}: say so in the Accept header", "not_acceptable")
    return Response(answer.body, media_type=answer.media_type)


@router.post("/cancel_future")
async def cancel_future(call: SampleCall) -> dict[str, Any]:
    """Accepted; what an engine has begun ends by itself."""
    asked: Retrieve = submissions.read(Retrieve, submissions.object_of(await call.body()))
    await asyncio.to_thread(call.service.futures.answer, call.caller, asked.request_id)
    return {}
