"""The HTTP application of the service: routes, errors in the shape that a path's clients read, health and metrics.

`python -m serve.app` runs it under uvicorn.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from serve.errors import ServiceError
from serve.inference import routes as inference_routes
from serve.jobs import file_routes, job_routes
from serve.operations.logs import tell
from serve.pages.application import add_pages
from serve.rewards import routes as reward_routes
from serve.training import routes, run_routes
from serve.training.calls import Call, needs
from serve.training.front_door import EVERY_METHOD, FrontDoor
from serve.training.service import TrainingService


def make_application(service: TrainingService) -> FastAPI:
    """The application around a service, which is started apart."""
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    api.state.service = service
    for path in ("/health", "/healthz"):
        api.add_api_route(path, healthz, methods=["GET"])
    api.add_api_route("/api/v1/healthz", healthz, methods=["GET"])
    api.add_api_route("/readyz", readyz, methods=["GET"])
    api.add_api_route("/metrics", metrics, methods=["GET"])
    api.include_router(routes.router)
    api.include_router(run_routes.router)
    api.include_router(inference_routes.router)
    api.include_router(file_routes.router)
    api.include_router(job_routes.router)
    api.include_router(reward_routes.router)
    api.add_api_route("/{path:path}", unknown, methods=EVERY_METHOD)
    api.add_exception_handler(ServiceError, refused)  # type: ignore[arg-type]  # Starlette's type is too narrow
    api.add_exception_handler(RequestValidationError, malformed)  # type: ignore[arg-type]
    api.add_exception_handler(HTTPException, no_such_method)  # type: ignore[arg-type]
    api.add_exception_handler(OperationalError, no_database)  # type: ignore[arg-type]
    api.add_exception_handler(Exception, broken)
    api.add_middleware(FrontDoor, service=service)
    add_pages(api, service.database, service.places.root, service.settings)
    return api


async def healthz() -> dict[str, str]:
    """Whether the process answers; needs no key and tells nothing else."""
    return {"status": "ok"}


async def readyz(request: Request) -> JSONResponse:
    """Whether requests would be worked on now; needs no key."""
    service: TrainingService = request.app.state.service
    why = service.health.why
    if not why and not service.pool.ready:
        why = "no engine is up"
    if not why:
        try:
            await asyncio.to_thread(service.database.check)
        except OperationalError:
            why = "the database does not answer"
    return JSONResponse({"status": why or "ready"}, 503 if why else 200)


async def metrics(call: Annotated[Call, needs("metrics")]) -> Response:
    """For Prometheus, with a key of the scope `metrics` as its bearer token."""
    return Response(call.service.metrics.exposition(), media_type="text/plain; version=0.0.4")


async def unknown(call: Annotated[Call, needs(None)], path: str) -> Response:
    """Anything else, known only with a key."""
    raise ServiceError(404, f"there is no {call.request.method} /{path[:200]} here", "no_route")


async def refused(request: Request, error: ServiceError) -> JSONResponse:
    """A refusal, in the API's shape."""
    body = error.body_for(request.url.path, request.state.request_id)
    return JSONResponse(body, error.status, error.headers())


async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
    """A query or a path that is none."""
    first: dict[str, Any] = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return await refused(request, ServiceError(422, f"{place}: {first['msg']}", "bad_request"))


async def no_such_method(request: Request, error: HTTPException) -> JSONResponse:
    """What Starlette itself refuses."""
    sentence = f"{request.method} {request.url.path[:200]}: {error.detail}"
    return await refused(request, ServiceError(error.status_code, sentence, "refused"))


async def no_database(request: Request, error: OperationalError) -> JSONResponse:
    """The database is away: clients try again by themselves."""
    tell("the database does not answer", level=40, error=type(error.orig).__name__)
    return await refused(
        request, ServiceError(503, "the database does not answer: try again", "no_database", retry_after_s=2)
    )


async def broken(request: Request, error: Exception) -> JSONResponse:
    """What nobody foresaw; the log has it."""
    tell("a call failed", level=40, error=repr(error)[:500], route=getattr(request.scope.get("route"), "path", "none"))
    return await refused(
        request, ServiceError(500, f"the server failed on this call ({type(error).__name__})", "broken")
    )
