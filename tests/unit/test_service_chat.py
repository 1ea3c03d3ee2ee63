"""Models and chat of the service, by the unmodified openai client, on an engine that makes words up."""

from __future__ import annotations

import base64
import io
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from PIL import Image
from sqlalchemy import select

from benchmarks.stub_service import Running, running, service_recipe, tiny_base
from serve.database.tables import Tenant, Usage, Weights
from serve.operations.patience import Patience
from serve.tenants.quotas import Quotas


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    base = tiny_base(tmp_path_factory.mktemp("base"))
    with running(service_recipe(tmp_path_factory.mktemp("service"), base)) as service:
        yield service


def client(served: Running, tenant: str = "lab", **more: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.url}/v1", api_key=served.key(tenant, **more), max_retries=0)


def image_uri(kind: str = "image/png") -> str:
    png = io.BytesIO()
    Image.new("RGB", (40, 30), (9, 90, 200)).save(png, "PNG" if kind == "image/png" else "JPEG")
    return f"data:{kind};base64,{base64.b64encode(png.getvalue()).decode()}"


def ask(served: Running, who: openai.OpenAI, uri: str | None = None, **more: Any) -> Any:
    content = [*([{"type": "image_url", "image_url": {"url": uri}}] if uri else []), {"type": "text", "text": "Go?"}]
    given: dict[str, Any] = {"model": served.service.base_name, "messages": [{"role": "user", "content": content}]}
    return who.chat.completions.create(**given | more)


def add_weights(served: Running, tenant: str, name: str) -> int:
    with served.database.writing() as session:
        owner = session.scalar(select(Tenant.id).where(Tenant.name == tenant))
        row = Weights(path=f"tinker://x/sampler_weights/{name}", name=name, tenant_id=owner, model_id="x",
                      kind="sampler", named=True, folder="/nowhere", digests={}, bytes=0, settings={}, about={},
                      created_at=time.time(), expires_at=None)  # fmt: skip
        session.add(row)
        session.flush()
        return row.number


def test_the_base_answers_whole_and_in_pieces_and_its_tokens_are_counted(served: Running) -> None:
    who = client(served, "counted")
    whole = ask(served, who, image_uri(), max_tokens=5, user="me", seed=3)
    assert whole.choices[0].message.content == "w0 w1 w2 w3 w4 "
    assert whole.usage.completion_tokens == 5
    pieces = list(ask(served, who, max_tokens=3, stream=True, stream_options={"include_usage": True}))
    assert "".join(one.choices[0].delta.content for one in pieces if one.choices) == "w0 w1 w2 "
    assert pieces[-1].usage.completion_tokens == 3
    with served.database.reading() as session:
        tenant = session.scalar(select(Tenant.id).where(Tenant.name == "counted"))
        used = session.scalar(select(Usage).where(Usage.tenant_id == tenant))
        assert used is not None
        assert used.images == 1
        assert used.tokens == whole.usage.total_tokens + pieces[-1].usage.total_tokens


@pytest.mark.parametrize(
    "uri",
    [
        image_uri().replace("data:", "DATA:").replace("image/png", "IMAGE/PNG"),
        image_uri("image/jpg"),
        image_uri().replace(";base64", ";charset=utf-8;base64"),
        "\r\n".join(image_uri()[at : at + 76] for at in range(0, len(image_uri()), 76)),
    ],
)
def test_data_uris_as_clients_write_them_are_taken(served: Running, uri: str) -> None:
    assert ask(served, client(served), uri).usage.completion_tokens


def test_a_tenants_models_are_its_own(served: Running) -> None:
    mine, theirs = client(served, "mine"), client(served, "theirs")
    add_weights(served, "mine", "ft:base:mine::1")
    assert [model.id for model in mine.models.list()] == [served.service.base_name, "ft:base:mine::1"]
    assert mine.models.retrieve("ft:base:mine::1").owned_by != "system"
    assert mine.models.retrieve(served.service.base_name).owned_by == "system"
    assert ask(served, mine, model="ft:base:mine::1").model == "ft:base:mine::1"
    assert [model.id for model in theirs.models.list()] == [served.service.base_name]
    for refused in (
        lambda: theirs.models.retrieve("ft:base:mine::1"),
        lambda: theirs.models.delete("ft:base:mine::1"),
        lambda: ask(served, theirs, model="ft:base:mine::1"),
    ):
        with pytest.raises(openai.NotFoundError, match="there is no model 'ft:base:mine::1'"):
            refused()
    assert mine.models.delete("ft:base:mine::1").deleted
    with pytest.raises(openai.NotFoundError):
        ask(served, mine, model="ft:base:mine::1")
    with pytest.raises(openai.PermissionDeniedError, match="the base model is everybody's"):
        mine.models.delete(served.service.base_name)


def test_a_tenant_beyond_its_quota_gets_an_error_that_says_so(served: Running) -> None:
    poor = client(served, "poor", quotas=Quotas(tokens_per_day=3))
    with pytest.raises(openai.RateLimitError, match="tokens_per_day"):
        ask(served, poor, max_tokens=50)


def test_what_is_wrong_is_said_in_openais_form(served: Running) -> None:
    who = client(served)
    with pytest.raises(openai.BadRequestError, match="messages.0.content.0: input_audio is not served") as caught:
        ask(served, who, messages=[{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}])
    assert caught.value.param == "messages.0.content.0"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=f"{served.url}/v1", api_key="tml-nobody", max_retries=0).models.list()
    with pytest.raises(openai.PermissionDeniedError, match="lacks the scope 'sample'"):
        ask(served, client(served, scopes="read"))


def test_health_is_open_by_its_openai_name_too(served: Running) -> None:
    assert httpx.get(f"{served.url}/health").json() == {"status": "ok"}


def test_a_connection_that_never_ends_its_head_is_closed(served: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Patience, "head_s", 0.3)
    for first in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: "):
        with socket.create_connection(("127.0.0.1", served.recipe.serve.port), timeout=10.0) as half_open:
            half_open.sendall(first)
            began = time.monotonic()
            assert half_open.recv(100) == b""
            assert time.monotonic() - began < 5.0
