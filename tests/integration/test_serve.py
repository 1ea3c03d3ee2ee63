"""The policy endpoint over HTTP: the openai client gets the tokens transformers gives, and nobody else gets any."""

from __future__ import annotations

import base64
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
import ray
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from cluster.session import session
from policies.prompt import chat_messages
from policies.tiny import build_tiny_policy
from policies.views import load_frame
from recipe import Recipe
from serve.app import policy_endpoint
from serve.errors import ServeError
from serve.front import front
from serve.operations.listening import free_port

pytestmark = pytest.mark.slow

KEY = "a key that only this test knows"
QUESTION = "What is the moving status of object <c1,CAM_FRONT,714.3,503.6>?"
TOKENS = 24


@dataclass(frozen=True)
class Served:
    """A running endpoint, the run folder behind it and six frames on disk."""

    url: str
    run_folder: Path
    recipe: Recipe
    frames: list[Path]

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url, api_key=KEY, max_retries=0, timeout=600.0)

    def ask(self, frames: list[Path], question: str = QUESTION, **options: Any) -> Any:
        images = [{"type": "image_url", "image_url": {"url": data_uri(frame)}} for frame in frames]
        messages: Any = [{"role": "user", "content": [*images, {"type": "text", "text": question}]}]
        given: dict[str, Any] = {"model": "tiny", "max_tokens": TOKENS, "temperature": 0.0} | options
        return self.client.chat.completions.create(messages=messages, **given)

    def post(self, body: Any, **headers: str) -> httpx.Response:
        given = {"Authorization": f"Bearer {KEY}"} | headers
        return httpx.post(f"{self.url}/chat/completions", json=body, headers=given, timeout=600.0)


def data_uri(path: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    run_folder = tmp_path_factory.mktemp("run")
    build_tiny_policy(run_folder / "policy", seed=3)
    pixels = np.random.default_rng(0)
    frames = [run_folder / f"frame{place}.png" for place in range(6)]
    for frame in frames:
        Image.fromarray(pixels.integers(0, 256, (90, 160, 3), dtype=np.uint8)).save(frame)
    recipe = Recipe(run={"name": "tiny"}, policy={"image_size": (64, 40)}, serve={"port": free_port()})
    with (
        session(recipe, variables=partial(front, settings=recipe.serve)),
        policy_endpoint(run_folder, recipe, KEY) as url,
    ):
        yield Served(url, run_folder, recipe, frames)


def greedy_by_transformers(served: Served, frames: list[Path]) -> tuple[list[int], list[int], str]:
    """Prompt ids, answer ids and answer text of the same checkpoint under plain `generate`."""
    folder, size = served.run_folder / "policy", served.recipe.policy.image_size
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    messages = chat_messages(QUESTION, len(frames), None)
    text = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    images = [load_frame(str(frame), size) for frame in frames]
    inputs = processor(images=images, text=text, return_tensors="pt")
    placeholder = model.config.image_token_id
    output = model.generate(**inputs, max_new_tokens=TOKENS, do_sample=False, suppress_tokens=[placeholder])
    prompt = inputs["input_ids"][0].tolist()
    answer = output[0, len(prompt) :].tolist()
    return prompt, answer, processor.tokenizer.decode(answer, skip_special_tokens=True)


def test_greedy_tokens_for_six_images_equal_those_of_transformers(served: Served) -> None:
    answer = served.ask(served.frames, extra_body={"return_token_ids": True})
    prompt_ids, token_ids, text = greedy_by_transformers(served, served.frames)
    assert answer.prompt_token_ids == prompt_ids
    assert answer.choices[0].token_ids == token_ids
    assert answer.choices[0].message.content == text
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(prompt_ids), len(token_ids))


def test_images_reach_the_policy_in_the_order_of_the_request(served: Served) -> None:
    turned = served.frames[::-1]
    _, expected, _ = greedy_by_transformers(served, turned)
    _, straight, _ = greedy_by_transformers(served, served.frames)
    assert served.ask(turned, extra_body={"return_token_ids": True}).choices[0].token_ids == expected
    assert expected != straight, "this policy does not tell the orders apart: the test would prove nothing"


def test_a_streamed_answer_is_the_whole_answer_in_pieces(served: Served) -> None:
    whole = served.ask(served.frames, max_tokens=8 * TOKENS)  # vLLM joins tokens that nobody had time to take
    pieces = list(served.ask(served.frames, max_tokens=8 * TOKENS, stream=True, stream_options={"include_usage": True}))
    said = [piece.choices[0] for piece in pieces if piece.choices]
    assert len(said) > 1
    assert "".join(choice.delta.content for choice in said) == whole.choices[0].message.content
    assert [choice.delta.role for choice in said] == ["assistant", *[None] * (len(said) - 1)]
    assert said[-1].finish_reason == whole.choices[0].finish_reason
    assert pieces[-1].usage == whole.usage


def test_the_one_model_is_listed_under_the_runs_name(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == ["tiny"]


@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {KEY}"}])
@pytest.mark.parametrize(
    ("method", "route"),
    [("POST", "chat/completions"), ("GET", "chat/completions"), ("GET", "models"), ("GET", "x"), ("DELETE", "x/y")],
)
def test_every_v1_route_wants_the_key(served: Served, method: str, route: str, header: dict[str, str]) -> None:
    answer = httpx.request(method, f"{served.url}/{route}", headers=header, timeout=600.0)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


def test_health_needs_no_key_and_nothing_else_is_open(served: Served) -> None:
    root = served.url.removesuffix("/v1")
    assert httpx.get(f"{root}/healthz", timeout=600.0).json() == {"status": "ok"}
    assert {httpx.get(f"{root}/{path}", timeout=600.0).status_code for path in ("docs", "openapi.json", "x")} == {404}


def test_it_listens_on_loopback_only(served: Served) -> None:
    port = served.recipe.serve.port
    other = ray.util.get_node_ip_address()
    if other.startswith("127."):
        pytest.skip("this machine has no address besides loopback")
    with socket.socket() as probe:
        assert probe.connect_ex((other, port)) != 0


def listening(process: psutil.Process) -> set[Any]:
    """Addresses and ports."""
    return {one.laddr for one in process.net_connections("inet") if one.status == "LISTEN"}


def test_haproxy_alone_listens_for_clients_and_serve_keeps_to_loopback(served: Served) -> None:
    children = psutil.Process().children(recursive=True)
    (front,) = [process for process in children if process.name() == "haproxy"]
    assert listening(front) == {("127.0.0.1", served.recipe.serve.port)}
    config = Path(front.cmdline()[front.cmdline().index("-f") + 1]).read_text()
    ports = {int(port) for port in re.findall(r"^ *server \S+ 127\.0\.0\.1:(\d+)", config, re.MULTILINE)}
    behind = {one for process in children for one in listening(process) if one.port in ports}
    assert {address for address, _ in behind} == {"127.0.0.1"}
    assert {port for _, port in behind} == ports
    assert "option forwardfor" in config


def test_a_connection_that_never_ends_the_head_of_its_request_is_closed(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.recipe.serve.port), timeout=120.0) as half:
        half.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n")
        assert b" 408 " in half.recv(4096)
        assert half.recv(4096) == b""


def refused(served: Served, content: Any, **options: Any) -> tuple[int, str]:
    answer = served.post({"model": "tiny", "messages": [{"role": "user", "content": content}]} | options)
    return answer.status_code, answer.json()["error"]["message"]


def test_images_that_would_have_to_be_fetched_are_refused(served: Served) -> None:
    for url in ("http://169.254.169.254/latest", "file:///etc/passwd", str(served.frames[0])):
        status, sentence = refused(served, [{"type": "image_url", "image_url": {"url": url}}])
        assert status == 400
        assert sentence.startswith("image 1 must be a data URI")


def test_a_prompt_too_long_for_the_model_is_refused_with_its_bound(served: Served) -> None:
    status, sentence = refused(served, "brake " * 3000)
    assert status == 400
    assert str(served.recipe.rollout.max_model_len) in sentence


def test_text_cannot_stand_for_an_image_or_open_a_turn(served: Served) -> None:
    processor = AutoProcessor.from_pretrained(served.run_folder / "policy")
    for token in (processor.image_token, processor.tokenizer.eos_token):
        status, sentence = refused(served, f"Look: {token}")
        assert (status, sentence) == (400, f"text may not contain the model's special token {token!r}")


def test_a_special_token_in_two_parts_opens_no_turn(served: Served) -> None:
    token = AutoProcessor.from_pretrained(served.run_folder / "policy").tokenizer.eos_token
    parts = [{"type": "text", "text": f"Q{token[:2]}"}, {"type": "text", "text": f"{token[2:]} and more"}]
    status, sentence = refused(served, parts)
    assert (status, "special token" in sentence) == (400, True)


def test_an_answer_satisfies_the_schema_and_shows_its_log_probabilities(served: Served) -> None:
    schema = {"type": "object", "properties": {"go": {"type": "boolean"}}, "required": ["go"],
              "additionalProperties": False}  # fmt: skip
    form = {"type": "json_schema", "json_schema": {"name": "decision", "schema": schema, "strict": True}}
    answer = served.ask(served.frames, response_format=form, max_tokens=64, logprobs=True, top_logprobs=2)
    assert json.loads(answer.choices[0].message.content).keys() == {"go"}
    tokens = answer.choices[0].logprobs.content
    assert len(tokens) == answer.usage.completion_tokens
    assert all(len(token.top_logprobs) == 2 and token.logprob <= 0 for token in tokens)


def test_more_clients_than_places_are_all_answered(served: Served) -> None:
    with ThreadPoolExecutor(40) as threads:
        answers = list(threads.map(lambda _: served.ask(served.frames[:1], max_tokens=2), range(40)))
    assert {answer.usage.completion_tokens for answer in answers} <= {1, 2}


@pytest.mark.parametrize("seed", [2**63 - 1, -(2**63), 0])
def test_every_seed_of_64_bits_is_taken(served: Served, seed: int) -> None:
    assert served.ask(served.frames[:1], seed=seed, temperature=1.0, max_tokens=2).usage.completion_tokens


def test_a_body_above_the_cap_is_refused(served: Served) -> None:
    status, sentence = refused(served, "x" * int(served.recipe.serve.max_body_mib * 2**20))
    assert (status, sentence) == (413, "the request body is larger than 32 MiB")


def test_errors_reach_the_openai_client_as_its_own_exceptions(served: Served) -> None:
    with pytest.raises(openai.BadRequestError, match=r"max_tokens=9999 .*512"):
        served.ask(served.frames, max_tokens=9999)
    with pytest.raises(openai.NotFoundError, match="model 'other' is not served here"):
        served.ask(served.frames, model="other")


def test_a_second_endpoint_on_the_same_cluster_is_refused(served: Served) -> None:
    with (
        pytest.raises(ServeError, match="Ray Serve already runs on this cluster"),
        policy_endpoint(served.run_folder, served.recipe, KEY),
    ):
        pass


def test_a_folder_without_a_policy_is_named(served: Served, tmp_path: Path) -> None:
    with (
        pytest.raises(ServeError, match=f"{tmp_path.name}/policy holds no policy"),
        policy_endpoint(tmp_path, served.recipe, KEY),
    ):
        pass
