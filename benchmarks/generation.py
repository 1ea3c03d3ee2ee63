"""How fast responses are generated: `python -m benchmarks.generation`. Prints, last, one JSON object with its figures.

Responses a second through the pool, as training asks for them (a seed each, streamed, over Ray), over those of vLLM's
AsyncLLM driven in one process, which is asked for G responses of a prompt at once and answers when all have ended.
Same policy and settings; both start from the paths of images that neither has seen. 32 prompts, six images each, 8
responses a prompt; median of alternating pairs.

- `pool_over_raw_n`: responses of 2 or 3 tokens, as the demonstration's.
- `pool_over_raw_long`: responses of 48 tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from actors.rollout.pool import EnginePool
from actors.rollout.vllm_engine import VllmEngine, VllmSettings
from benchmarks.bare_process import bare_process
from cluster.session import session
from data.rendered.samples import rendered_samples
from data.rollout import Rollout, SamplingSettings
from data.sample import DrivingSample
from policies.source import policy_source
from recipe import Recipe, load_recipe

ROOT = Path(__file__).resolve().parents[1]
PROMPTS, GROUP = 32, 8
SHORT, LONG = (2, 3), (48, 48)
"""Tokens of the responses: to every other prompt the first, to the others the second."""


def main() -> None:
    """Measure everything; with `--raw FOLDER`, be the process that drives the bare engine."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--raw", metavar="FOLDER", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.raw:
        asyncio.run(raw_engine(Path(options.raw)))
        return
    with tempfile.TemporaryDirectory(prefix="bench-generation-") as folder:
        figures = asyncio.run(measured(Path(folder), options.pairs))
    print(json.dumps(figures))


async def measured(folder: Path, pairs: int) -> dict[str, Any]:
    """All figures."""
    recipe = benchmark_recipe()
    questions = [sample.question for sample in scenes(folder, "words")]
    source = policy_source(recipe.policy, folder, 0, questions)
    figures: dict[str, Any] = {}
    with session(recipe):
        engines = await EnginePool.launch(recipe, source, lambda role, index: {"num_cpus": 0}).started()
        with bare_engine(folder, source) as raw:
            for name, lengths in (("n", SHORT), ("long", LONG)):
                salts = [f"{name}-{number}" for number in range(-1, pairs)]
                found = [(await through_pool(engines, scenes(folder, salt), lengths), raw(salt)) for salt in salts]
                ratios = [bare / through for through, bare in found[1:]]  # the first pair warms both up
                figures[f"pool_over_raw_{name}"] = round(statistics.median(ratios), 3)
                figures[f"pool_over_raw_{name}_spread"] = [round(min(ratios), 3), round(max(ratios), 3)]
                through, bare = zip(*found[1:], strict=True)
                figures[f"pool_{name}_s"] = round(statistics.median(through), 3)
                figures[f"raw_{name}_s"] = round(statistics.median(bare), 3)
        await engines.end()
    return figures | {"pairs": pairs, "responses": PROMPTS * GROUP}


def benchmark_recipe() -> Recipe:
    """The demonstration's, with one engine on all the cores that this process may use."""
    threads = len(os.sched_getaffinity(0))
    return load_recipe([str(ROOT / "recipes/tiny.yaml"), f"rollout.threads={threads}"])


def scenes(folder: Path, salt: str) -> list[DrivingSample]:
    """One question about each of as many new scenes as there are prompts; the same in both processes."""
    made = rendered_samples(folder / salt, PROMPTS, seed=sum(salt.encode()) * 1000 + len(salt))
    return list({frozenset(sample.images.values()): sample for sample in made}.values())


def sampling_of(number: int, lengths: tuple[int, int]) -> SamplingSettings:
    """How the responses to one of the prompts are drawn; an untrained policy hardly ever ends before its cap."""
    return SamplingSettings(1.0, lengths[number % 2])


async def through_pool(engines: EnginePool, samples: list[DrivingSample], lengths: tuple[int, int]) -> float:
    """Seconds in which the pool streams all responses."""
    finished: list[Rollout] = []
    requests = [
        request
        for number, sample in enumerate(samples)
        for request in engines.requests([sample], GROUP, sampling_of(number, lengths), "benchmark")
    ]
    began = time.perf_counter()
    await engines.generate(requests, finished.append)
    seconds = time.perf_counter() - began
    assert len(finished) == PROMPTS * GROUP, "every request must be answered"
    return seconds


class BareEngine(VllmEngine):
    """vLLM with the arguments that the pool's engines have, asked for a group at once."""

    def _stat_loggers(self) -> list[type[Any]]:
        """It times no request."""
        return []

    async def group(self, sample: DrivingSample, sampling: SamplingSettings) -> int:
        """Tokens of a group's responses, once all of them have ended."""
        asked, final = self._sampling(sampling), None
        asked.n = GROUP
        async for output in self._llm.generate(self._described(sample), asked, sample.id):
            final = output
        assert final is not None, "vLLM must answer"
        return sum(len(response.token_ids) for response in final.outputs)


@contextlib.contextmanager
def bare_engine(folder: Path, source: str) -> Iterator[Callable[[str], float]]:
    """A process that holds AsyncLLM; called with a salt it does the work of it once and returns the seconds."""
    recipe = benchmark_recipe()
    environment = os.environ | VllmEngine.environment(recipe, VllmSettings(**recipe.rollout.options))
    with bare_process(["benchmarks.generation", "--raw", str(folder)], environment) as work:
        work(source)
        yield work


async def raw_engine(folder: Path) -> None:
    """Drive AsyncLLM without a pool or Ray: the first line on stdin names the policy, each other one a salt."""
    recipe = benchmark_recipe()
    settings = VllmSettings(**recipe.rollout.options)
    source = (await asyncio.to_thread(sys.stdin.readline)).strip()
    engine = BareEngine("bare engine", source, recipe, settings, seed=0)
    print(f"seconds {await engine.start()}", flush=True)
    while salt := (await asyncio.to_thread(sys.stdin.readline)).strip():
        samples, lengths = scenes(folder, salt), SHORT if salt.startswith("n-") else LONG
        began = time.perf_counter()
        groups = [engine.group(sample, sampling_of(number, lengths)) for number, sample in enumerate(samples)]
        await asyncio.gather(*groups)
        print(f"seconds {time.perf_counter() - began}", flush=True)
    await engine.stop()


if __name__ == "__main__":
    main()
