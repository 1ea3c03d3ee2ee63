"""Every route of the training service against every attack: the application's routes are walked, so none is missed."""

from __future__ import annotations

import base64
import io
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import tinker
import zstandard
from fastapi import FastAPI
from fastapi.routing import APIRoute
from PIL import Image

from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from serve.application import make_application
from serve.operations.logs import JsonFormatter, redact
from serve.tenants.quotas import Quotas
from serve.training.front_door import OPEN

SENTINEL = "tml-sentinel-that-nobody-may-ever-see-again"
BODIES = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"model_id": 5}',
    b"\x00\xff\x80",
    b'{"a":' * 3000,
    json.dumps({"session_id": "x" * 9000}).encode(),
    b'{"messages": [' + b"0," * 300_000 + b"0]}",
    b'{"model": "m", "messages": [{"role": "user", "content": "x"}], "seed": 1' + b"0" * 400 + b"}",
    json.dumps({"items": [{"sample": {"question": "\ud800"}}], "grader": [], "item": 5, "model_sample": None}).encode(),
    b'{"grader": {"type": "multi", "graders": ' + b"[" * 5_000 + b"]" * 5_000 + b"}}",
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    with running(service_recipe(tmp_path_factory.mktemp("service"), base)) as service:
        yield service


@pytest.fixture(scope="module")
def key(served: Running) -> str:
    return served.key("walker", quotas=Quotas(requests_per_minute=1_000_000))


def routes(served: Running) -> list[tuple[str, str]]:
    """Every method and path of the application, its parameters filled in."""
    api: FastAPI = make_application(served.service)
    found = [(method, route) for route in api.routes if isinstance(route, APIRoute) for method in route.methods]
    assert len(found) > 30
    return [(method, re.sub(r"{[^}]+}", "unknown", route.path)) for method, route in found]


def guarded(served: Running) -> list[tuple[str, str]]:
    return [(method, path) for method, path in routes(served) if path not in OPEN]


def sent(
    served: Running, method: str, path: str, key: str | None, body: bytes = b"{}", **headers: str
) -> httpx.Response:
    return served.call(method, path, key, content=body, headers=headers)


def said(answer: httpx.Response) -> dict[str, Any]:
    """The error of an answer, in the API's shape."""
    error: dict[str, Any] = answer.json()
    assert answer.headers["x-request-id"]
    if answer.request.url.path.startswith("/v1/"):
        assert set(error) == {"error"}
        assert set(error["error"]) == {"message", "type", "param", "code"}
        return {"detail": error["error"]["message"], "code": error["error"]["code"]}
    assert set(error) == {"detail", "code", "request_id"}
    assert answer.headers["x-request-id"] == error["request_id"]
    return error


def test_every_route_asks_for_a_key_and_for_one_that_is_known(served: Running) -> None:
    for method, path in guarded(served):
        for name, value in (("X-Other", ""), ("X-API-Key", SENTINEL), ("X-API-Key", "x" * 5000),
                            ("Authorization", f"Bearer {SENTINEL}")):  # fmt: skip
            answer = served.call(method, path, None, content=b"{}", headers={name: value})
            assert answer.status_code == 401, (method, path)
            assert SENTINEL not in answer.text
            assert method == "HEAD" or said(answer)["code"] in ("no_key", "bad_key")


def test_only_health_is_open(served: Running) -> None:
    assert {path for _, path in routes(served)} & set(OPEN) == set(OPEN)
    for path in OPEN:
        assert served.call("GET", path).status_code == 200


def test_every_route_says_which_scope_it_needs_and_a_key_without_it_is_refused(served: Running) -> None:
    nothing = served.key("scopeless", scopes="metrics")
    api = make_application(served.service)
    scoped = 0
    for route in api.routes:
        if not isinstance(route, APIRoute) or route.path in OPEN:
            continue
        scopes = [getattr(one.call, "needs_scope", "none declared") for one in route.dependant.dependencies]
        assert scopes, f"{route.path} takes no Call"
        assert scopes != ["none declared"], f"{route.path} takes no Call"
        if scopes[0] in ("train", "sample", "read"):
            scoped += 1
            for method in route.methods:
                path = re.sub(r"{[^}]+}", "unknown", route.path)
                answer = sent(served, method, path, nothing)
                assert (answer.status_code, said(answer)["code"]) == (403, "no_scope"), path
    assert scoped > 15


def test_no_malformed_body_gives_a_5xx_or_anything_but_the_apis_own_error(served: Running, key: str) -> None:
    for method, path in guarded(served):
        if method == "HEAD":
            continue
        for body in BODIES:
            answer = sent(served, method, path, key, body)
            assert answer.status_code < 500, (method, path, body[:40], answer.text)
            if answer.status_code >= 400:
                said(answer)


def test_ids_of_another_tenant_are_unknown_on_every_route(served: Running, key: str) -> None:
    owner = served.key("owner")
    service = tinker.ServiceClient(base_url=served.url, api_key=owner)
    policy = service.create_lora_training_client(base_model=served.service.base, rank=4).result()
    path = policy.save_state("mine").result().path
    sampler = service.create_sampling_client(base_model=served.service.base).result()
    session, model = policy.model_id.split(":")[0], policy.model_id
    numbered = {"model_id": model, "seq_id": 1}
    prompt = {"chunks": [{"type": "encoded_text", "tokens": [1]}]}
    asked: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", "/session_heartbeat", {"session_id": session}),
        ("POST", f"/sessions/{session}/finish", {}),
        ("GET", f"/sessions/{session}", {}),
        ("POST", "/create_model", {"session_id": session, "model_seq_id": 7, "base_model": "x"}),
        ("POST", "/get_info", {"model_id": model}),
        ("POST", "/optim_step", {**numbered, "adam_params": {}}),
        ("POST", "/save_weights", {**numbered, "path": "theirs"}),
        ("POST", "/save_weights_for_sampler", {**numbered, "path": "theirs"}),
        ("POST", "/load_weights", {**numbered, "path": path}),
        ("POST", "/load_weights", {"session_id": session, "model_seq_id": 8, "path": path}),
        ("POST", "/create_sampling_session", {"session_id": session, "sampling_session_seq_id": 9, "model_path": path}),
        ("GET", f"/samplers/{sampler._sampling_session_id}", {}),
        ("POST", "/asample", {"sampling_session_id": sampler._sampling_session_id, "seq_id": 5, "prompt": prompt,
                              "sampling_params": {}}),
        ("POST", "/retrieve_future", {"request_id": f"{model}:0"}),
        ("POST", "/cancel_future", {"request_id": f"{model}:0"}),
        ("POST", "/weights_info", {"tinker_path": path}),
        ("GET", f"/training_runs/{model}", {}),
        ("GET", f"/training_runs/{model}/checkpoints", {}),
        ("DELETE", f"/training_runs/{model}/checkpoints/weights/mine", {}),
        ("PUT", f"/training_runs/{model}/checkpoints/weights/mine/ttl", {"ttl_seconds": 3600}),
    ]  # fmt: skip
    for method, route, body in asked:
        answer = served.call(method, f"/api/v1{route}", key, json=body)
        assert answer.status_code == 404, (route, answer.text)
        assert "owner" not in answer.text
    for listing in ("training_runs", "checkpoints", "sessions"):
        assert session not in served.call("GET", f"/api/v1/{listing}", key).text
    message = tinker.proto.tinker_public_pb2.ForwardBackwardRequest(model_id=model, seq_id=1)
    assert sent(served, "POST", "/api/v1/forward_backward", key, message.SerializeToString()).status_code == 404
    own = tinker.ServiceClient(base_url=served.url, api_key=key)
    with pytest.raises(tinker.RequestFailedError, match="there are no weights at"):
        own.create_training_client_from_state(path).result()


def test_a_body_beyond_the_limit_is_refused_also_when_it_unpacks_to_that(served: Running, key: str) -> None:
    limit = int(served.service.settings.max_body_mib * 2**20)
    bomb = zstandard.compress(b"0" * (limit + 1))
    assert len(bomb) < 100_000
    for body, coding in ((b"0" * (limit + 1), "identity"), (bomb, "zstd")):
        answer = sent(served, "POST", "/api/v1/telemetry", key, body, **{"Content-Encoding": coding})
        assert (answer.status_code, said(answer)["code"]) == (413, "large")
    assert sent(served, "POST", "/api/v1/telemetry", key, b"junk", **{"Content-Encoding": "zstd"}).status_code == 400
    assert sent(served, "POST", "/api/v1/telemetry", key, b"junk", **{"Content-Encoding": "gzip"}).status_code == 415


def test_an_image_bomb_is_refused_by_its_header(served: Running, key: str) -> None:
    png = io.BytesIO()
    Image.new("L", (20_000, 20_000)).save(png, "PNG")
    service = tinker.ServiceClient(base_url=served.url, api_key=key)
    sampler = service.create_sampling_client(base_model=served.service.base).result()
    image = {"type": "image", "data": base64.b64encode(png.getvalue()).decode(), "format": "png"}
    body = {"sampling_session_id": sampler._sampling_session_id, "seq_id": 0, "prompt": {"chunks": [image]},
            "sampling_params": {"max_tokens": 1}}  # fmt: skip
    future = served.call("POST", "/api/v1/asample", key, json=body).json()
    answer = served.call("POST", "/api/v1/retrieve_future", key, json={"request_id": future["request_id"]}).json()
    assert answer["category"] == "user"
    assert "pixels" in answer["error"]


def test_calls_beyond_the_rate_are_answered_with_the_time_to_wait(served: Running) -> None:
    few = served.key("fast", quotas=Quotas(requests_per_minute=3))
    answers = [served.call("GET", "/api/v1/get_server_capabilities", few) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 20
    assert "3 calls a minute" in said(answers[-1])["detail"]


@pytest.mark.parametrize(
    "text",
    [f"key {SENTINEL}", f"Authorization: Bearer {SENTINEL}", "postgresql://user:hunter2-sentinel@host/name"],
)
def test_secrets_never_reach_a_log(text: str) -> None:
    line = JsonFormatter().format(logging.LogRecord("x", 20, "", 1, text, (), None))
    for secret in (SENTINEL, "hunter2-sentinel"):
        assert secret not in line
        assert secret not in redact(text)


def test_a_key_is_kept_nowhere(served: Running, key: str) -> None:
    held = b"".join(path.read_bytes() for path in Path(served.recipe.run.folder).glob("service.db*"))
    assert key.encode() not in held
