"""`ray job submit` from an activated venv, against a head with a dashboard and token authentication."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
START_S, JOB_S = 600.0, 1200.0
SMALL = (
    "run.steps=1",
    "warm_start.steps=2",
    "data.options.scenes=8",
    "evaluation.samples_per_task=2",
    "rollout.max_tokens=24",
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(START_S + JOB_S + 600)]


@dataclass(frozen=True)
class Head:
    """A Ray head of this test alone."""

    url: str
    token: str
    environment: dict[str, str]

    def get(self, path: str, token: str | None) -> httpx.Response:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self.url}{path}", headers=headers, timeout=300.0)

    def submit(self, *command: str) -> str:
        """Submit a job; its id. For some seconds after a head started no agent takes jobs yet, so this tries again."""
        job = f"job-{secrets.token_hex(4)}"
        wanted = ["ray", "job", "submit", "--no-wait", "--submission-id", job, "--working-dir", ".", "--", *command]
        deadline = time.monotonic() + START_S
        while True:
            done = subprocess.run(wanted, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600)
            if done.returncode == 0:
                return job
            said = done.stdout + done.stderr
            assert "No available agent" in said, said
            assert time.monotonic() < deadline, said
            time.sleep(2.0)

    def outcome(self, job: str) -> tuple[str, str]:
        """Wait for a job's end; its status and what it printed."""
        deadline = time.monotonic() + JOB_S
        while (status := self.get(f"/api/jobs/{job}", self.token).json()["status"]) in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline, self.log(job)
            time.sleep(1.0)
        return status, self.log(job)

    def log(self, job: str) -> str:
        return self.get(f"/api/jobs/{job}/logs", self.token).json()["logs"]


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))  # short, for Ray's socket names
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    gcs, dashboard, client, agent = free_ports(4)
    unwanted = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "PYTHONPATH"}
    venv = Path(sys.executable).parent
    environment = {name: value for name, value in os.environ.items() if name not in unwanted} | {
        "PATH": f"{venv}{os.pathsep}{os.environ['PATH']}",
        "VIRTUAL_ENV": str(venv.parent),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    command = ["ray", "start", "--head", "--block", "--num-cpus=2", "--dashboard-host=127.0.0.1"]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder / 'ray'}", "--disable-usage-stats"]
    command += [f"--object-store-memory={200 * 2**20}"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        started = Head(f"http://127.0.0.1:{dashboard}", token_file.read_text(), environment)
        wait_until_up(started, process, folder / "log")
        yield started
    finally:
        process.send_signal(signal.SIGTERM)  # with --block it ends everything it started
        process.wait(timeout=300)
        shutil.rmtree(folder)


def wait_until_up(head: Head, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, log.read_text()
        try:
            if head.get("/api/version", head.token).status_code == 200:
                return
        except httpx.TransportError:
            pass  # not listening yet
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.5)


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("wrong" * 8, 403)])
@pytest.mark.parametrize("path", ["/api/version", "/api/jobs/", "/api/cluster_status"])
def test_a_request_without_the_token_is_turned_away(head: Head, path: str, token: str | None, status: int) -> None:
    assert head.get(path, token).status_code == status
    assert head.get(path, head.token).status_code == 200


def test_a_submitted_run_trains_and_leaves_its_report(head: Head, tmp_path: Path) -> None:
    job = head.submit("python", "train_grpo.py", "recipes/tiny.yaml", f"run.root={tmp_path}", *SMALL)
    status, log = head.outcome(job)
    assert status == "SUCCEEDED", log
    assert (tmp_path / "tiny" / "report.html").stat().st_size > 0
    assert (tmp_path / "tiny" / "policy" / "config.json").is_file()
    shown = head.get(f"/api/jobs/{job}", head.token).json()["metadata"]
    assert (shown["step"], shown["report"]) == ("1 of 1", str(tmp_path / "tiny" / "report.html"))
    assert 0.0 <= float(shown["reward"]) <= 100.0


def test_a_relative_run_root_is_refused_for_it_would_be_thrown_away(head: Head) -> None:
    status, log = head.outcome(head.submit("python", "train_grpo.py", "recipes/tiny.yaml", "run.root=runs"))
    assert status == "FAILED", log
    assert (
        "error: run.root=runs is relative, but under `ray job submit` the working directory is a throw-away copy" in log
    )
