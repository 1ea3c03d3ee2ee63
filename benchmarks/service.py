"""The service's second half in numbers: chat, health under garbage, calls of the jobs API, jobs under kills.

    python -m benchmarks.service [--parts chat,ttft,health,api,kills] [--rounds 5] [--kills 20]

- `chat`: requests a second of `python -m serve.app RUN` over those of vLLM's own server, both up, asked in turn: 16
  clients, six images of 32 x 32 pixels, 32 tokens; the median of the rounds.
- `ttft`: seconds to the first token of a streamed answer over vLLM's, one client; medians.
- `health`: ten bodies of 7 MiB of garbage a second, through Ray Serve's proxy, while `/healthz` is asked 20 times a
  second: the 99th percentile in ms.
- `api`: calls of the jobs API by 64 clients, one a second each, on runs without a model: the 99th percentile in ms.
- `kills`: the server is killed (SIGKILL) again and again under jobs whose runs live on or die with it, and are posted
  again by the client: jobs that did not end well, or that there are too many of.

Prints, last, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
from PIL import Image
from sqlalchemy import func, select

from benchmarks.parts import measure_parts
from benchmarks.stub_service import service_recipe, tiny_base
from policies.tiny import build_tiny_policy
from policies.vllm_environment import vllm_environment
from recipe import Recipe, dump_recipe
from serve.assembly import database_of
from serve.database.tables import Job
from serve.operations.listening import free_port
from serve.tenants.keys import make_key
from serve.tenants.quotas import Quotas

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("chat", "ttft", "health", "api", "kills")
KEY = "a key of this benchmark alone"
CLIENTS, IMAGES, TOKENS, REQUESTS = 16, 6, 32, 64
READY_S = 600.0
GARBAGE = 7 * 2**20
QUESTION = "What should the ego vehicle do next?"


@contextmanager
def process(command: list[str], url: str, environment: dict[str, str] | None = None) -> Generator[None, None, None]:
    """A server in a process of its own, once `<url>` answers."""
    running = subprocess.Popen(command, cwd=ROOT, stdout=sys.stderr, env=os.environ | (environment or {}))
    try:
        wait_for(url, running)
        yield None
    finally:
        running.terminate()
        try:
            running.wait(60.0)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for(url: str, running: subprocess.Popen[bytes]) -> None:
    """Wait until a server answers."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until:
        if running.poll() is not None:
            raise SystemExit(f"the server of {url} ended with status {running.returncode}")
        try:
            if httpx.get(url, timeout=5.0).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise SystemExit(f"{url} did not answer within {READY_S:g} s")


@contextmanager
def endpoint(root: Path) -> Iterator[tuple[str, Path]]:
    """A tiny policy behind `python -m serve.app`; its address and folder."""
    run = root / "tiny"
    build_tiny_policy(run / "policy", seed=3)
    port = free_port()
    recipe = Recipe(run={"name": "tiny", "root": str(root)}, policy={"image_size": (32, 32)}, rollout={"threads": 2},
                    serve={"port": port})  # fmt: skip
    (run / "recipe.yaml").write_text(dump_recipe(recipe))
    url = f"http://127.0.0.1:{port}"
    with process([sys.executable, "-m", "serve.app", str(run)], f"{url}/healthz", {"AUTODRIVERL_SERVE_KEY": KEY}):
        yield url, run


@contextmanager
def vllm_server(run: Path) -> Iterator[str]:
    """vLLM's own server on the same policy."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(run / "policy"), "--port",
               str(port), "--host", "127.0.0.1", "--served-model-name", "tiny", "--dtype", "float32",
               "--enforce-eager", "--max-model-len", "1024", "--max-num-seqs", str(CLIENTS), "--limit-mm-per-prompt",
               json.dumps({"image": IMAGES}), "--no-enable-chunked-prefill", "--max-num-batched-tokens", "16384",
               "--disable-log-stats", "--api-key", KEY]  # fmt: skip
    with process(command, f"{url}/health", vllm_environment(2, 1.0, 1.0)):
        yield url


def prompt(number: int) -> list[dict[str, Any]]:
    """A question with six images that no other request has."""
    pixels, parts = np.random.default_rng(number), list[dict[str, Any]]()
    for _ in range(IMAGES):
        png = io.BytesIO()
        Image.fromarray(pixels.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(png, "PNG")
        uri = f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"
        parts.append({"type": "image_url", "image_url": {"url": uri}})
    return [{"role": "user", "content": [*parts, {"type": "text", "text": QUESTION}]}]


def client(url: str) -> Any:
    """Of a server, without retries."""
    return openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=600.0)


async def rate(url: str, first: int) -> float:
    """Requests a second, with `CLIENTS` requests under way at once."""
    who, places = client(url), asyncio.Semaphore(CLIENTS)
    prompts = [prompt(first + number) for number in range(REQUESTS)]

    async def ask(messages: Any) -> None:
        async with places:
            await who.chat.completions.create(model="tiny", messages=messages, max_tokens=TOKENS, temperature=0.0)

    began = time.monotonic()
    await asyncio.gather(*map(ask, prompts))
    took = time.monotonic() - began
    await who.close()
    return REQUESTS / took


async def first_token(url: str, number: int) -> float:
    """Seconds to the first piece of a streamed answer."""
    who, began = client(url), time.monotonic()
    stream = await who.chat.completions.create(
        model="tiny", messages=prompt(number), max_tokens=TOKENS, temperature=0.0, stream=True
    )
    async for piece in stream:
        if piece.choices and piece.choices[0].delta.content:
            break
    took = time.monotonic() - began
    await stream.close()
    await who.close()
    return took


def measure_chat(root: Path, rounds: int) -> dict[str, Any]:
    """Both servers, asked in turn."""
    with endpoint(root) as (ours, run), vllm_server(run) as theirs:
        for url in (ours, theirs):
            asyncio.run(rate(url, 0))  # what is loaded late is loaded now
        pairs = []
        for number in range(1, rounds + 1):
            pairs.append(tuple(asyncio.run(rate(url, number * REQUESTS)) for url in (ours, theirs)))
    ratios = [one / other for one, other in pairs]
    return {
        "chat_over_vllm_server": round(statistics.median(ratios), 3),
        "chat_requests_per_s": [round(one, 2) for one, _ in pairs],
        "vllm_requests_per_s": [round(other, 2) for _, other in pairs],
    }


def measure_first_token(root: Path, rounds: int) -> dict[str, Any]:
    """One client, one after the other."""
    with endpoint(root) as (ours, run), vllm_server(run) as theirs:
        took: dict[str, list[float]] = {ours: [], theirs: []}
        for number in range(4 * rounds + 2):
            for url, seconds in took.items():
                seconds.append(asyncio.run(first_token(url, number)))
    medians = [statistics.median(seconds[2:]) for seconds in took.values()]
    return {"ttft_ratio": round(medians[0] / medians[1], 3), "ttft_ms": [round(1000 * one, 1) for one in medians]}


def measure_health(root: Path, seconds: float = 30.0) -> dict[str, Any]:
    """Health under garbage."""
    with endpoint(root) as (url, _):
        took, answered = asyncio.run(_health(url, seconds))
    return {
        "healthz_p99_ms": round(1000 * float(np.quantile(took, 0.99)), 1),
        "healthz_calls": len(took),
        "garbage_answers": answered,
    }


async def _health(url: str, seconds: float) -> tuple[list[float], dict[str, int]]:
    bodies = (
        b'{"model": "tiny", "messages": [' + b"0," * (GARBAGE // 2) + b"0]}",
        b'{"model": "tiny", "messages": [' + b'{"role": 1},' * (GARBAGE // 12) + b"0]}",
        b"[" * GARBAGE,
        os.urandom(GARBAGE),
    )
    took, answers, until = list[float](), dict[str, int](), time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(timeout=120.0) as http:

        async def throw(number: int) -> None:
            answer = await http.post(f"{url}/v1/chat/completions", content=bodies[number % 4], headers=headers)
            answers[str(answer.status_code)] = answers.get(str(answer.status_code), 0) + 1

        async def garbage() -> None:
            thrown, number = list[asyncio.Task[None]](), 0
            while time.monotonic() < until:
                thrown.append(asyncio.create_task(throw(number)))
                number += 1
                await asyncio.sleep(0.1)
            await asyncio.gather(*thrown)

        async def ask() -> None:
            while time.monotonic() < until:
                began = time.monotonic()
                (await http.get(f"{url}/healthz")).raise_for_status()
                took.append(time.monotonic() - began)
                await asyncio.sleep(max(0.0, 0.05 - took[-1]))

        await asyncio.gather(garbage(), ask())
    return took, answers


@contextmanager
def stub_server(root: Path, **jobs: Any) -> Iterator[tuple[Recipe, Callable[[], subprocess.Popen[bytes]]]]:
    """A service on stub learners, engines and runs; its recipe, and what starts it (again)."""
    recipe = service_recipe(root, tiny_base(root))
    given = recipe.serve.jobs.model_copy(update={"poll_s": 0.2, "max_running": 4, **jobs})
    recipe = recipe.model_copy(update={"serve": recipe.serve.model_copy(update={"jobs": given})})
    begun = list[subprocess.Popen[bytes]]()

    def begin() -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "benchmarks.stub_service", recipe.model_dump_json()]
        begun.append(subprocess.Popen(command, cwd=ROOT))
        wait_for(f"http://127.0.0.1:{recipe.serve.port}/readyz", begun[-1])
        return begun[-1]

    try:
        yield recipe, begin
    finally:
        for one in begun:
            one.kill()
            one.wait()


def uploaded(url: str, key: str) -> tuple[openai.OpenAI, str]:
    """A client, and the id of a small file of its."""
    who = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=200, timeout=600.0)
    lines = [{"id": f"q{n}", "scene_id": f"s{n}", "task": "planning", "kind": "open_ended", "question": "Go?",
              "answer": "Go.", "images": {}} for n in range(8)]  # fmt: skip
    content = "\n".join(map(json.dumps, lines)).encode()
    return who, who.files.create(file=("drives.jsonl", content), purpose="fine-tune").id


def many() -> Quotas:
    """No limit to speak of."""
    return Quotas(requests_per_minute=10_000_000, jobs=10_000)


def measure_api(root: Path, seconds: float = 30.0, clients: int = 64) -> dict[str, Any]:
    """Small calls of many clients."""
    with stub_server(root) as (recipe, begin):
        begin()
        url = f"http://127.0.0.1:{recipe.serve.port}"
        key = make_key(database_of(recipe, os.environ), "many", "benchmark", quotas=many())
        who, file = uploaded(url, key)
        body: dict[str, Any] = {"model": recipe.policy.model, "training_file": file}
        job = who.fine_tuning.jobs.create(**body, hyperparameters={"n_epochs": 1}).id
        took = asyncio.run(_calls(url, key, job, clients, seconds))
    return {"jobs_api_p99_ms": round(1000 * float(np.quantile(took, 0.99)), 1), "jobs_api_calls": len(took)}


async def _calls(url: str, key: str, job: str, clients: int, seconds: float) -> list[float]:
    took, paths = list[float](), ("", f"/{job}", f"/{job}/events", f"/{job}/checkpoints")
    headers, limits = {"Authorization": f"Bearer {key}"}, httpx.Limits(max_connections=clients)
    jobs = f"{url}/v1/fine_tuning/jobs"
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=60.0) as http:

        async def one(number: int) -> None:
            await asyncio.sleep(number / clients)
            until, at = time.monotonic() + seconds, number
            while time.monotonic() < until:
                began = time.monotonic()
                (await http.get(jobs + paths[at % len(paths)])).raise_for_status()
                took.append(time.monotonic() - began)
                at += 1
                await asyncio.sleep(max(0.0, 1.0 - took[-1]))

        await asyncio.gather(*map(one, range(clients)))
    return took


def measure_kills(root: Path, kills: int) -> dict[str, Any]:
    """Jobs under kills: half of the time their runs die with the server, as with a Ray of its own."""
    lost = extra = posted = runs = 0
    for number, stop_s in enumerate((300.0, 0.5)):  # below a second the stub's runs die with their server
        folder = root / str(number)
        folder.mkdir()
        with stub_server(folder, stop_s=stop_s) as (recipe, begin):
            one = _killed(recipe, begin, kills // 2 + number * (kills % 2))
        lost, extra, posted, runs = lost + one[0], extra + one[1], posted + one[2], runs + one[3]
    return {"jobs_lost": lost, "jobs_too_many": extra, "jobs_posted": posted, "runs_begun": runs, "kills": kills}


def _killed(recipe: Recipe, begin: Callable[[], subprocess.Popen[bytes]], kills: int) -> tuple[int, int, int, int]:
    """Jobs that did not end well, jobs too many, jobs that were posted, and runs."""
    running = begin()
    database, url = database_of(recipe, os.environ), f"http://127.0.0.1:{recipe.serve.port}"
    who, file = uploaded(url, make_key(database, "killed", "benchmark", quotas=many()))
    posted = list[str]()
    for number in range(kills):
        body: dict[str, Any] = {"model": recipe.policy.model, "training_file": file, "seed": number}
        method: Any = {"type": "supervised", "supervised": {"hyperparameters": {"x_steps": 20}}}
        posted.append(who.fine_tuning.jobs.create(**body, method=method).id)
        time.sleep(0.2 + 0.13 * (number % 7))
        running.kill()
        running.wait()
        running = begin()
    until = time.monotonic() + READY_S
    states = dict[str, str]()
    while time.monotonic() < until and set(states.values()) != {"succeeded"}:
        states = {job: who.fine_tuning.jobs.retrieve(job).status for job in posted}
        if set(states.values()) <= {"succeeded", "failed", "cancelled"}:
            break
        time.sleep(0.5)
    with database.reading() as session:
        count = session.scalar(select(func.count()).select_from(Job)) or 0
        runs = session.scalar(select(func.sum(Job.attempt))) or 0
    return sum(state != "succeeded" for state in states.values()), count - len(posted), len(posted), runs


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    works: dict[str, Callable[[Path], dict[str, Any]]] = {
        "chat": lambda root: measure_chat(root, given.rounds),
        "ttft": lambda root: measure_first_token(root, given.rounds),
        "health": measure_health,
        "api": measure_api,
        "kills": lambda root: measure_kills(root, given.kills),
    }
    measure_parts(parser, given.parts, works)


if __name__ == "__main__":
    main()
