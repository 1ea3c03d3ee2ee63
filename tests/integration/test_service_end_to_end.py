"""File, job, better model, chat: the whole service with real learners, engines and Ray jobs, by the openai client.

While a job runs, the server is killed.
"""

from __future__ import annotations

import base64
import io
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest
from PIL import Image

from data.faults import Faults
from data.formats.format import format_of
from data.sample import DrivingSample
from data.settings import DataSettings
from recipe import load_recipe
from serve.assembly import database_of
from serve.operations.listening import free_port
from serve.tenants.keys import make_key
from serve.tenants.quotas import Quotas
from tests.integration.heads import remove

ROOT = Path(__file__).parents[2]
READY_S, JOB_S = 900.0, 1500.0
STEPS, PAUSED_AFTER, ASKED = 60, 10, 40

pytestmark = [pytest.mark.slow, pytest.mark.fault, pytest.mark.timeout(READY_S + 2 * JOB_S)]


@dataclass(frozen=True)
class Served:
    """A service in processes of its own, and a key of a tenant."""

    url: str
    key: str
    process: subprocess.Popen[bytes]

    def kill_server(self) -> None:
        """Kill the serving process outright, and wait until the next one serves."""
        (server,) = [
            child for child in psutil.Process(self.process.pid).children() if "serve.server" in child.cmdline()
        ]
        server.kill()
        server.wait(60.0)
        until = time.monotonic() + READY_S
        while not _ready(self.url):
            assert self.process.poll() is None
            assert time.monotonic() < until
            time.sleep(1.0)

    def client(self) -> Any:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, timeout=300.0)


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    """A Ray head of this test alone, with ports that nothing else listens on; what its clients' environment holds."""
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))  # short, for Ray's socket names
    token = folder / "token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32))
    gcs, dashboard, clients, agent = (free_port() for _ in range(4))
    venv = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if name not in ("RAY_AUTH_TOKEN", "PYTHONPATH")}
    environment |= {"PATH": f"{venv}{os.pathsep}{os.environ['PATH']}", "VIRTUAL_ENV": str(venv.parent),
                    "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}  # fmt: skip
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--dashboard-host=127.0.0.1", f"--port={gcs}",
               f"--dashboard-port={dashboard}", f"--ray-client-server-port={clients}", "--disable-usage-stats",
               f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder / 'ray'}",
               f"--object-store-memory={200 * 2**20}"]  # fmt: skip
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + READY_S
        while "Ray runtime started" not in (folder / "log").read_text():
            assert head.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until
            time.sleep(0.5)
        yield environment | {"RAY_ADDRESS": f"127.0.0.1:{gcs}"}
    finally:
        head.send_signal(signal.SIGTERM)  # with --block it ends everything it started
        head.wait(timeout=300)
        remove(folder)


@pytest.fixture(scope="module")
def served(cluster: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    root, port = tmp_path_factory.mktemp("service"), free_port()
    settings = ["recipes/service.yaml", f"run.root={root}", f"serve.port={port}", "serve.training.max_rank=8",
                "serve.jobs.poll_s=1"]  # fmt: skip
    command = [sys.executable, "-m", "serve.app", *settings]
    with (root / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=cluster, stdout=log, stderr=log)
    url, until = f"http://127.0.0.1:{port}", time.monotonic() + READY_S
    try:
        while not _ready(url):
            assert process.poll() is None, (root / "server.log").read_text()
            assert time.monotonic() < until
            time.sleep(1.0)
        database = database_of(load_recipe(settings), os.environ)
        yield Served(url, make_key(database, "lab", "test", quotas=Quotas(requests_per_minute=1_000_000)), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(120.0)
        except subprocess.TimeoutExpired:
            process.kill()


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5.0).status_code == 200
    except httpx.TransportError:
        return False


def drives(folder: Path) -> list[DrivingSample]:
    """Questions about rendered scenes, of one task, so that a short job learns something."""
    source = format_of(DataSettings(source="rendered", options={"scenes": 60}))
    return [sample for sample in source.read(Faults(), folder, 0) if sample.kind == "multiple_choice"]


def uri(path: str) -> str:
    """A frame at the size that the tiny policy's tower sees."""
    png = io.BytesIO()
    Image.open(path).convert("RGB").resize((32, 32), Image.Resampling.BILINEAR).save(png, "PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"


def line(sample: DrivingSample) -> str:
    return json.dumps({"id": sample.id, "scene_id": sample.scene_id, "frame_id": sample.frame_id, "task": sample.task,
                       "kind": sample.kind, "question": sample.question, "answer": sample.answer,
                       "choices": sample.choices,
                       "images": {name: uri(path) for name, path in sample.images.items()}})  # fmt: skip


def right(who: Any, model: str, samples: list[DrivingSample]) -> int:
    count = 0
    for sample in samples:
        images = [{"type": "image_url", "image_url": {"url": uri(path)}} for path in sample.images.values()]
        messages = [{"role": "user", "content": [*images, {"type": "text", "text": sample.question}]}]
        answer = who.chat.completions.create(model=model, messages=messages, max_tokens=8, temperature=0.0)
        count += answer.choices[0].message.content.strip().startswith(sample.answer)
    return count


def waited(who: Any, job_id: str, *states: str) -> Any:
    until = time.monotonic() + JOB_S
    while (job := who.fine_tuning.jobs.retrieve(job_id)).status not in states:
        assert job.status not in ("failed", "cancelled"), job.error
        assert time.monotonic() < until
        time.sleep(1.0)
    return job


def test_a_file_becomes_a_better_model_that_can_be_asked(served: Served, tmp_path: Path) -> None:
    who, samples = served.client(), drives(tmp_path)
    shown, asked = samples[:-ASKED], samples[-ASKED:]
    file = who.files.create(file=("drives.jsonl", "\n".join(map(line, shown)).encode()), purpose="fine-tune")
    base = who.models.list().data[0].id
    method = {"type": "supervised",
              "supervised": {"hyperparameters": {"x_steps": STEPS, "x_checkpoint_steps": PAUSED_AFTER}}}  # fmt: skip
    job = who.fine_tuning.jobs.create(model=base, training_file=file.id, method=method, suffix="mcq")
    until = time.monotonic() + JOB_S
    while not (found := list(who.fine_tuning.jobs.checkpoints.list(job.id))):
        assert time.monotonic() < until
        assert who.fine_tuning.jobs.retrieve(job.id).status in ("queued", "running")
        time.sleep(1.0)
    # a checkpoint can be asked while the job goes on
    assert right(who, found[0].fine_tuned_model_checkpoint, asked[:2]) >= 0
    assert who.fine_tuning.jobs.retrieve(job.id).status == "running"
    served.kill_server()  # the run lives on, on the cluster
    who.fine_tuning.jobs.pause(job.id)
    waited(who, job.id, "paused", "succeeded")
    if who.fine_tuning.jobs.retrieve(job.id).status == "paused":
        who.fine_tuning.jobs.resume(job.id)
    done = waited(who, job.id, "succeeded")
    events = list(who.fine_tuning.jobs.list_events(job.id, limit=100))
    assert {event.data["step"] for event in events if event.type == "metrics"} == set(range(1, STEPS + 1))
    before, after = right(who, base, asked), right(who, done.fine_tuned_model, asked)
    print(f"{before} of {ASKED} right before, {after} after")
    assert after >= before + ASKED // 8


def test_a_grader_makes_a_reinforced_model(served: Served, tmp_path: Path) -> None:
    who, samples = served.client(), drives(tmp_path)[:64]
    file = who.files.create(file=("drives.jsonl", "\n".join(map(line, samples)).encode()), purpose="fine-tune")
    base = who.models.list().data[0].id
    grader = {"type": "string_check", "name": "same", "operation": "like", "input": "{{sample.output_text}}",
              "reference": "{{item.answer}}"}  # fmt: skip
    hyperparameters = {"x_steps": 2, "batch_size": 8, "x_group_size": 4, "x_warm_start_steps": 20, "x_max_tokens": 8,
                       "eval_samples": 4}  # fmt: skip
    method = {"type": "reinforcement", "reinforcement": {"grader": grader, "hyperparameters": hyperparameters}}
    job = who.fine_tuning.jobs.create(model=base, training_file=file.id, method=method)
    done = waited(who, job.id, "succeeded")
    metrics = [event.data for event in who.fine_tuning.jobs.list_events(job.id, limit=100) if event.type == "metrics"]
    assert {line["step"] for line in metrics} == {1, 2}
    assert all("reward/mean" in line for line in metrics)
    assert right(who, done.fine_tuned_model, samples[:2]) >= 0
