"""The training service in numbers, with the unmodified Tinker client.

    python -m benchmarks.training_service [--parts step,tenants,kills,calls,soak] [--kills 20] [--soak-minutes 10]

- `step`: the wall time of a GRPO step through the wire over that of a step of `train_grpo.py`: the same base, a
  supervised tiny policy, adapters of rank 8, 32 prompts of six images, 8 responses each; the median after 3 steps.
- `tenants`: two tenants at once over one after the other, with a learner and an engine of fixed time, then real ones.
- `kills`: server, learner and engine are killed (SIGKILL) in turn under a supervised and a GRPO loop.
- `calls`: small calls of 64 clients, one a second each: the 99th percentile in ms.
- `soak`: a supervised loop for some minutes, and by what share the service's memory grew (the last third of the
  measurements over the first; USS of all its processes).

Prints, last, one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import tinker
from safetensors.numpy import load_file
from sqlalchemy import func, select

from actors.learning.adapter_learner import STATE_FILE
from benchmarks.parts import measure_parts
from benchmarks.service_loops import fixed_service, overlapping_loop, rl_loop, supervised_loop
from benchmarks.soak import growth, memory_of
from docs.examples.tinker_driving import base_of
from recipe import load_recipe
from serve.assembly import database_of
from serve.database.tables import Model, Request
from serve.operations.listening import free_port
from serve.tenants.keys import make_key
from serve.tenants.quotas import Quotas

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("step", "tenants", "kills", "calls", "soak")
NATIVE = (
    "policy.lora.rank=8",
    "rollout.adapters=apart",
    "warm_start.steps=0",
    "evaluation.before_and_after=false",
    "run.steps=13",
    "run.checkpoint_minutes=0",
    "learner.micro_batch_groups=32",
)
WARM, MEASURED = 3, 10
READY_S = 600.0
PROCESSES = {"server": "serve.server", "learner": "ray::AdapterLearner", "engine": "ray::AdapterEngine"}


@dataclass
class Service:
    """A service in processes of its own."""

    process: subprocess.Popen[bytes]
    url: str
    settings: list[str]

    def key(self, tenant: str) -> str:
        """A key of a tenant with no quota to speak of."""
        quotas = Quotas(models=10_000, requests_per_minute=10_000_000)
        return make_key(self.database(), tenant, "benchmark", quotas=quotas)

    def database(self) -> Any:
        """Its database."""
        return database_of(load_recipe(self.settings), {})

    def client(self, tenant: str) -> tinker.ServiceClient:
        """A client of a tenant."""
        return tinker.ServiceClient(base_url=self.url, api_key=self.key(tenant))

    @property
    def base(self) -> str:
        """What clients call its model."""
        return base_of(self.url, self.key("base"))

    def kill(self, what: str) -> None:
        """Kill one of its processes outright, once there is one."""
        until = time.monotonic() + READY_S
        while time.monotonic() < until:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if PROCESSES[what] in " ".join(child.cmdline()):
                        child.kill()
                        return
            time.sleep(0.5)
        raise SystemExit(f"there was no {what} to kill within {READY_S:g} s")

    def wait(self) -> float:
        """Wait until it is ready; seconds."""
        began = time.monotonic()
        while time.monotonic() - began < READY_S:
            try:
                if httpx.get(f"{self.url}/readyz", timeout=5.0).status_code == 200:
                    return time.monotonic() - began
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise SystemExit(f"the service was not ready within {READY_S:g} s")


@contextmanager
def service(root: Path, *overrides: str) -> Iterator[Service]:
    """A service on loopback inside the block."""
    own = (f"run.root={root}", f"serve.port={free_port()}", "serve.training.max_rank=8")  # as large as the loops' own
    settings = ["recipes/service.yaml", *own, *overrides]
    process = subprocess.Popen([sys.executable, "-m", "serve.app", *settings], cwd=ROOT, stdout=sys.stderr)
    port = next(one for one in settings if one.startswith("serve.port="))
    made = Service(process, f"http://127.0.0.1:{port.partition('=')[2]}", settings)
    try:
        made.wait()
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def train(*arguments: str) -> None:
    """Run `train_grpo.py` with the tiny recipe."""
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", *arguments]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)


def base_policy(root: Path) -> str:
    """A tiny policy that was taught the form of the answers, so that rewards differ."""
    train(f"run.root={root}", "run.name=base", "run.steps=0", "warm_start.steps=120", "data.options.scenes=120",
          "evaluation.before_and_after=false")  # fmt: skip
    return str(root / "base" / "policy")


def measure_step(root: Path) -> dict[str, Any]:
    """The same GRPO step natively and through the wire."""
    base = base_policy(root)
    train(f"run.root={root}", "run.name=native", f"policy.model={base}", "data.options.scenes=120", *NATIVE)
    lines = (root / "native" / "metrics.jsonl").read_text().splitlines()
    native = [row["step_s"] for row in map(json.loads, lines) if "step_s" in row][WARM : WARM + MEASURED]
    with service(root, f"policy.model={base}") as running:
        steps = rl_loop(running.client("step"), running.base, WARM + MEASURED, prompts=32, group=8)
    wire = [one["seconds"] for one in steps[WARM:]]
    return {
        "tinker_step_over_native": round(statistics.median(wire) / statistics.median(native), 3),
        "native_step_s": round(statistics.median(native), 3),
        "wire_step_s": round(statistics.median(wire), 3),
        "sampler_gap_max": max((one["sampler_gap"] for one in steps if "sampler_gap" in one), default=None),
    }


def two_at_once(loop: Callable[[str], float]) -> tuple[float, float]:
    """Seconds of two tenants' loops one after the other, and at once; what is loaded late is loaded before."""
    loop("warm")
    apart = sum(loop(tenant) for tenant in ("first", "second"))
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(loop, ("third", "fourth")))
    return apart, time.monotonic() - began


def measure_tenants(root: Path) -> dict[str, Any]:
    """Two tenants with stubs of fixed time, then with the real learner and engine."""
    with fixed_service(root / "stubs", seconds=0.25) as (url, base, key):
        apart, together = two_at_once(
            lambda tenant: overlapping_loop(tinker.ServiceClient(base_url=url, api_key=key(tenant)), base)
        )
    figures = {"two_tenants_over_sequential": round(apart / together, 3)}
    with service(root) as running:
        apart, together = two_at_once(lambda tenant: overlapping_loop(running.client(tenant), running.base))
    return {**figures, "two_tenants_over_sequential_real": round(apart / together, 3)}


def measure_kills(root: Path, kills: int, steps: int) -> dict[str, Any]:
    """Kill server, learner and engine under loops that get no notice; what they lost or did twice, and learnt."""
    with service(root, f"policy.model={base_policy(root)}") as running:
        base = running.base
        unbroken = supervised_loop(running.client("unbroken"), base, steps)
        means = [reward_of(running.client(f"run {number}"), base) for number in range(3)]  # only what is drawn differs
        ended, failures, gaps, rewards = threading.Event(), list[str](), list[float](), list[float]()

        def guarded(work: Callable[[], None]) -> None:
            try:
                work()
            except Exception as error:  # a future that was lost, or one that failed
                failures.append(f"{type(error).__name__}: {error}"[:300])

        def supervised() -> None:
            while not ended.is_set():
                losses = supervised_loop(running.client("broken"), base, steps)
                gaps.append(float(np.max(np.abs(np.subtract(losses, unbroken)))))

        def reinforced() -> None:
            while not ended.is_set():
                rewards.append(reward_of(running.client("broken rl"), base))

        threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in (supervised, reinforced)]
        for thread in threads:
            thread.start()
        pauses = dict[str, list[float]]()
        for number in range(kills):
            what = list(PROCESSES)[number % len(PROCESSES)]
            time.sleep(4.0)
            running.kill(what)
            time.sleep(0.5)
            pauses.setdefault(what, []).append(running.wait())
        ended.set()
        for thread in threads:
            thread.join(READY_S)
        hung = sum(thread.is_alive() for thread in threads)
        counts = settled(running)
    return {
        "kills": kills,
        "futures_lost": len(failures) + counts["queued"] + hung,
        "failures": failures,
        "steps_applied_twice": counts["twice"],
        "steps_left_out": counts["left out"],
        "supervised_loops": len(gaps),
        "supervised_loss_gap": max(gaps, default=None),
        "rl_loops": len(rewards),
        "rl_reward_broken": [round(mean, 4) for mean in rewards],
        "rl_reward_unbroken": [round(mean, 4) for mean in means],
        "ready_again_s": {what: round(statistics.median(seconds), 1) for what, seconds in pauses.items()},
    }


def reward_of(client: tinker.ServiceClient, base: str) -> float:
    """The mean reward of a GRPO loop over the same 48 groups."""
    return statistics.fmean(one["reward"] for one in rl_loop(client, base, 6, prompts=8, group=8))


def settled(running: Service) -> dict[str, int]:
    """Requests without a result, and steps that a model's optimizer counts twice, or not, by its newest snapshot."""
    twice = left_out = 0
    with running.database().reading() as session:
        queued = session.scalar(select(func.count()).select_from(Request).where(Request.state == "queued")) or 0
        for model in session.scalars(select(Model).where(Model.snapshot_folder.is_not(None))):
            mine = (Request.subject == model.id, Request.kind == "optim_step", Request.state == "done")
            counted = select(func.count()).select_from(Request).where(*mine, Request.seq <= model.snapshot)
            more = steps_of(Path(model.snapshot_folder or "")) - (session.scalar(counted) or 0)
            twice, left_out = twice + max(0, more), left_out + max(0, -more)
    return {"queued": queued, "twice": twice, "left out": left_out}


def steps_of(snapshot: Path) -> int:
    """The optimizer steps that a snapshot's state has seen."""
    seen = [int(value) for name, value in load_file(snapshot / STATE_FILE).items() if name.endswith(".step")]
    return max(seen, default=0)


def measure_calls(root: Path, seconds: float = 30.0, clients: int = 64) -> dict[str, Any]:
    """Heartbeats, futures and lists, of many clients at once."""
    with service(root) as running:
        key = running.key("many")
        took = asyncio.run(small_calls(running.url, key, clients, seconds))
    return {"small_call_p99_ms": round(1000 * float(np.quantile(took, 0.99)), 1), "small_calls": len(took)}


async def small_calls(url: str, key: str, clients: int, seconds: float) -> list[float]:
    """Seconds that each call took."""
    took = list[float]()
    headers = {"X-API-Key": key}
    limits = httpx.Limits(max_connections=clients)
    async with httpx.AsyncClient(base_url=f"{url}/api/v1", headers=headers, limits=limits, timeout=60.0) as http:
        session: dict[str, Any] = {"tags": [], "user_metadata": None, "sdk_version": "0.38.0", "type": "create_session"}

        async def one(number: int) -> None:
            await asyncio.sleep(number / clients)
            made = await http.post("/create_session", json=session)
            body, until = {"session_id": made.json()["session_id"]}, time.monotonic() + seconds
            while time.monotonic() < until:
                began = time.monotonic()
                answer = await http.post("/session_heartbeat", json=body)
                answer.raise_for_status()
                took.append(time.monotonic() - began)
                await asyncio.sleep(max(0.0, 1.0 - took[-1]))

        await asyncio.gather(*map(one, range(clients)))
    return took


def measure_soak(root: Path, minutes: float) -> dict[str, Any]:
    """A loop for some minutes."""
    with service(root) as running:
        until, memory, steps = time.monotonic() + 60 * minutes, list[float](), 0
        while time.monotonic() < until:
            steps += len(supervised_loop(running.client("soak"), running.base, 20))
            memory.append(memory_of(running.process.pid)[1])
    return {"soak_memory_growth": growth(memory[1:]), "soak_steps": steps, "soak_minutes": minutes}


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40, help="of the supervised loop under kills")
    parser.add_argument("--soak-minutes", type=float, default=10.0)
    given = parser.parse_args()
    os.environ["TINKER_TELEMETRY"] = "0"
    works: dict[str, Callable[[Path], dict[str, Any]]] = {
        "step": measure_step,
        "tenants": measure_tenants,
        "kills": lambda root: measure_kills(root, given.kills, given.steps),
        "calls": measure_calls,
        "soak": lambda root: measure_soak(root, given.soak_minutes),
    }
    measure_parts(parser, given.parts, works)


if __name__ == "__main__":
    main()
