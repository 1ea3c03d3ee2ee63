"""How fast answers are judged: `python -m benchmarks.judge`. Prints, last, one JSON object with its figures.

- `in_flight_efficiency`: 1,024 items at 200 ms each against a local server that refuses the 65th request in flight;
  items x latency / (64 x wall).
- `cache_rerun_s`: the same 1,024 again, from the cache on disk.
- `pool_over_raw_engine`: items/s through the pool and its Ray actor over items/s of vLLM's AsyncLLM driven in one
  process: same tiny judge, settings and prompts, no cache; median of 5 alternating pairs.
- `prefix_cached_over_cacheable`: prompt tokens that the engine's prefix cache served, over those in full blocks that
  an earlier prompt shares.
- `hidden_fraction`: (T_gen + T_judge - T_both) / T_judge for 128 responses of a real rollout engine, their lengths
  spread 1:8, judged while their siblings are generated; T_gen and T_judge are alike.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
from transformers import AutoTokenizer

from actors.rollout.pool import EnginePool
from actors.scoring.judge_engine import JudgeEngine, SheetRequest
from actors.scoring.judge_engines import JudgeEngines
from actors.scoring.judge_pool import JudgePool
from actors.scoring.scorers import Scorers
from benchmarks.bare_process import bare_process
from benchmarks.priority import step_down_to
from cluster.session import session
from data.rendered.samples import rendered_samples
from data.rollout import GenerationRequest, Rollout, SamplingSettings
from data.sample import DrivingSample
from policies.source import judge_source, policy_source
from policies.vllm_environment import vllm_environment
from recipe import Recipe, load_recipe
from rewards.judge import JudgeRequest
from rewards.judge_cache import JudgeCache
from rewards.judge_endpoint import JudgeEndpoint
from rewards.rubric import load_rubric, rubric_for, rubric_texts
from rewards.settings import GateSettings, JudgeSettings, RewardSettings, RouteSettings

ROOT = Path(__file__).resolve().parents[1]
ITEMS, LATENCY_S, LIMIT, WARM_UP = 1024, 0.2, 64, 16
ENGINE_ITEMS, PAIRS = 192, 5
BLOCK = 128
"""Tokens in a block of vLLM's prefix cache on CPU."""
RESPONSES, SHORTEST, LONGEST, GENERATED_AT_ONCE, JUDGED_AT_ONCE = 128, 24, 192, 32, 4

TINY = JudgeSettings(model="tiny", dtype="float32", threads=1, max_tokens=160, max_concurrent=96, cache=False)
"""One compute thread for each engine, in the pool's actor as in the bare process: the other core is the driver's."""


def main() -> None:
    """Measure everything; with `--raw FOLDER`, be the process that drives the bare engine."""
    if sys.argv[1:2] == ["--raw"]:
        asyncio.run(raw_engine(sys.argv[2]))
        return
    with tempfile.TemporaryDirectory(prefix="bench-judge-") as folder:
        figures = asyncio.run(measure(Path(folder)))
    print(json.dumps(figures))


async def measure(folder: Path) -> dict[str, Any]:
    """All figures."""
    figures: dict[str, Any] = {}
    samples = rendered_samples(folder / "rendered", 8, seed=0)
    figures |= await in_flight(samples, folder)
    recipe = load_recipe([str(ROOT / "recipes/tiny.yaml")])
    with session(recipe):
        figures |= await pool_against_raw(samples, folder)
        figures |= await hidden(samples, folder, recipe)
    return figures


# --- many requests in flight ----------------------------------------------------------------------------------------


async def in_flight(samples: list[DrivingSample], folder: Path) -> dict[str, float]:
    """The pool against a judge that only waits, and then its cache."""
    requests, first = items(samples, ITEMS, "flying"), items(samples, WARM_UP, "warm")
    cache = folder / "cache.sqlite"
    with waiting_judge(LATENCY_S, LIMIT) as url:
        settings = JudgeSettings(model="waits", url=url, max_concurrent=LIMIT)
        endpoint = JudgeEndpoint(settings)
        warm = JudgePool(endpoint, settings)
        await asyncio.gather(*(warm.judge(request) for request in first))  # what the client loads late
        wall = await judge_all(JudgePool(endpoint, settings, JudgeCache(cache)), requests)
        counts = httpx.get(url.removesuffix("/v1") + "/counts", timeout=10).json()
        again = await judge_all(JudgePool(JudgeEndpoint(settings), settings, JudgeCache(cache)), requests)
        served = httpx.get(url.removesuffix("/v1") + "/counts", timeout=10).json()["served"]
    assert served == counts["served"] == ITEMS + WARM_UP, "the second pass must come from the cache"
    return {
        "in_flight_efficiency": ITEMS * LATENCY_S / (LIMIT * wall),
        "in_flight_wall_s": wall,
        "in_flight_refused": counts["refused"],
        "most_in_flight": counts["most_in_flight"],
        "cache_rerun_s": again,
    }


@contextlib.contextmanager
def waiting_judge(latency_s: float, limit: int) -> Iterator[str]:
    """The URL of a judge that only waits, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.judge_server", "--latency", str(latency_s), "--limit", str(limit)]
    server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        yield server.stdout.readline().strip()
    finally:
        server.terminate()
        server.wait(timeout=10)


async def judge_all(pool: JudgePool, requests: list[JudgeRequest]) -> float:
    """Seconds in which a pool judges everything; the pool is let go of."""
    began = time.perf_counter()
    await asyncio.gather(*(pool.judge(request) for request in requests))
    seconds = time.perf_counter() - began
    await pool.stop()
    return seconds


def items(samples: list[DrivingSample], count: int, salt: str) -> list[JudgeRequest]:
    """Requests about different answers to the samples' questions, each with the rubric for its kind."""
    chosen = itertools.islice(itertools.cycle(samples), count)
    return [
        load_rubric(rubric_for(sample)).request(sample, f"{sample.answer} ({salt} {number})")
        for number, sample in enumerate(chosen)
    ]


# --- the pool's engine against the bare one -------------------------------------------------------------------------


async def pool_against_raw(samples: list[DrivingSample], folder: Path) -> dict[str, Any]:
    """Alternating pairs of the same work through the pool and through AsyncLLM in one process."""
    source = judge_source(TINY.model, folder, rubric_texts())
    backend = await JudgeEngines.start(TINY, source, lambda role, index: {"num_cpus": 0})
    pool = JudgePool(backend, TINY)
    niceness = await step_down_to(backend.engines.members[0].actor)
    first = items(samples, ENGINE_ITEMS, "cold")
    await asyncio.gather(*(pool.judge(request) for request in first))  # also warms everything that loads late
    shared = backend.cached_tokens / cacheable_tokens(first, source)
    pairs = []
    with bare_engine(source) as raw:
        raw("warm")
        for number in range(PAIRS):
            requests = items(samples, ENGINE_ITEMS, f"pool {number}")
            began = time.perf_counter()
            await asyncio.gather(*(pool.judge(request) for request in requests))
            pairs.append((time.perf_counter() - began, raw(f"bare {number}")))
    await pool.stop()
    ratios = [bare / through for through, bare in pairs]
    return {
        "pool_over_raw_engine": statistics.median(ratios),
        "pool_over_raw_engine_spread": [min(ratios), max(ratios)],
        "pool_items_per_s": ENGINE_ITEMS / statistics.median(through for through, _ in pairs),
        "raw_items_per_s": ENGINE_ITEMS / statistics.median(bare for _, bare in pairs),
        "prefix_cached_over_cacheable": shared,
        "niceness": niceness,
    }


def bare_engine(source: str) -> contextlib.AbstractContextManager[Callable[[str], float]]:
    """A process that holds AsyncLLM; called with a salt it does the work once and returns the seconds."""
    environment = os.environ | vllm_environment(TINY.threads, TINY.cpus, TINY.memory_gib)
    return bare_process(["benchmarks.judge", "--raw", source], environment)


async def raw_engine(source: str) -> None:
    """Drive AsyncLLM without a pool or Ray: for each line on stdin, judge everything once."""
    engine = JudgeEngine(source, TINY)
    await engine.start()
    with tempfile.TemporaryDirectory() as folder:
        samples = rendered_samples(Path(folder), 8, seed=0)
    slots = asyncio.Semaphore(TINY.max_concurrent)

    async def one(request: JudgeRequest) -> None:
        async with slots:
            await engine.reply(SheetRequest(request.messages(), request.schema))

    while line := await asyncio.to_thread(sys.stdin.readline):
        requests = items(samples, ENGINE_ITEMS, line.strip())
        began = time.perf_counter()
        await asyncio.gather(*(one(request) for request in requests))
        print(f"seconds {time.perf_counter() - began}", flush=True)
    await engine.stop()


def cacheable_tokens(requests: list[JudgeRequest], source: str) -> int:
    """Tokens in the leading full blocks that an earlier prompt has too; the last token is always computed."""
    tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    seen: set[tuple[int, ...]] = set()
    total = 0
    for request in requests:
        chat = tokenizer.apply_chat_template(request.messages(), tokenize=False, add_generation_prompt=True)
        ids = tokenizer(chat, add_special_tokens=False).input_ids
        prefixes = [tuple(ids[:end]) for end in range(BLOCK, len(ids), BLOCK)]
        total += BLOCK * sum(prefix in seen for prefix in prefixes)
        seen.update(prefixes)
    return total


# --- judging hidden behind generation -------------------------------------------------------------------------------


async def hidden(samples: list[DrivingSample], folder: Path, recipe: Recipe) -> dict[str, float]:
    """Generation alone, judging alone, and both as the training loop does them."""
    rollout = recipe.rollout.model_copy(update={"options": {"max_concurrent": GENERATED_AT_ONCE}, "threads": 1})
    recipe = recipe.model_copy(update={"rollout": rollout})
    source = policy_source(recipe.policy, folder, 0, [sample.question for sample in samples])
    engines = await EnginePool.launch(recipe, source, lambda role, index: {"num_cpus": 0}).started()
    await generate(engines, samples, "warm", lambda rollout: None)
    finished: list[Rollout] = []
    t_gen = [await generate(engines, samples, f"gen {number}", finished.append) for number in range(3)]
    latency = statistics.median(t_gen) * JUDGED_AT_ONCE / RESPONSES
    with waiting_judge(latency, JUDGED_AT_ONCE) as url:
        scorers = scorers_at(url)
        by_id = {sample.id: sample for sample in samples}
        t_judge = await timed(judge_rollouts(scorers, by_id, finished[:RESPONSES]))
        t_both = [await both(engines, scorers, samples, f"both {number}") for number in range(3)]
        await scorers.stop()
    await engines.end()
    gen, together = statistics.median(t_gen), statistics.median(t_both)
    return {
        "hidden_fraction": (gen + t_judge - together) / t_judge,
        "t_gen_s": gen,
        "t_judge_s": t_judge,
        "t_both_s": together,
    }


def scorers_at(url: str) -> Scorers:
    """Scorers that send everything to the judge; nothing is settled by rule, however an untrained policy babbles."""
    gate = GateSettings(overlong=False, max_repeated_share=1.0, max_repeated_sentence=10**6)
    judge = JudgeSettings(model="waits", url=url, max_concurrent=JUDGED_AT_ONCE, cache=False)
    routes = (RouteSettings(scorers={"judge": 1.0}),)
    return Scorers(RewardSettings(gate=gate, routes=routes, judge=judge), JudgePool(JudgeEndpoint(judge), judge))


async def generate(
    engines: EnginePool, samples: list[DrivingSample], salt: str, finished: Callable[[Rollout], None]
) -> float:
    """Seconds of generation alone."""
    return await timed(engines.generate(requests_of(samples, salt), finished))


async def judge_rollouts(scorers: Scorers, samples: dict[str, DrivingSample], rollouts: list[Rollout]) -> None:
    """Judge responses that are all there already."""
    await asyncio.gather(*(scorers.score(samples[rollout.sample_id], rollout) for rollout in rollouts))


async def both(engines: EnginePool, scorers: Scorers, samples: list[DrivingSample], salt: str) -> float:
    """Seconds of generation with each response judged the moment it ends."""
    by_id = {sample.id: sample for sample in samples}
    judging: list[asyncio.Task[Any]] = []

    def judge(rollout: Rollout) -> None:
        judging.append(asyncio.create_task(scorers.score(by_id[rollout.sample_id], rollout)))

    async def work() -> None:
        await engines.generate(requests_of(samples, salt), judge)
        await asyncio.gather(*judging)

    return await timed(work())


def requests_of(samples: list[DrivingSample], salt: str) -> list[GenerationRequest]:
    """Requests whose caps, and so the lengths of an untrained policy's responses, are spread 1:8."""
    step = (LONGEST - SHORTEST) / (RESPONSES - 1)
    caps = [round(SHORTEST + step * (37 * number % RESPONSES)) for number in range(RESPONSES)]
    chosen = itertools.islice(itertools.cycle(samples), RESPONSES)
    return [
        GenerationRequest(f"{salt} {number}", sample, SamplingSettings(1.0, cap))
        for number, (sample, cap) in enumerate(zip(chosen, caps, strict=False))
    ]


async def timed(work: Coroutine[Any, Any, Any]) -> float:
    """Seconds that some work takes."""
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
