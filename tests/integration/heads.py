"""A Ray head with a job server and token authentication, and nodes that join it, each a process of this machine."""

from __future__ import annotations

import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from os import environ, pathsep
from pathlib import Path
from typing import Any

import httpx
import psutil

ROOT = Path(__file__).parents[2]
START_S, JOB_S, REMOVED_S = 600.0, 1200.0, 60.0
Node = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Head:
    """A Ray head of this test alone."""

    folder: Path
    address: str
    url: str
    token: str
    environment: dict[str, str]
    nodes: list[Node] = field(default_factory=list)

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

    def job(self, job: str) -> dict[str, Any]:
        """What the job server says of a job."""
        return dict(self.get(f"/api/jobs/{job}", self.token).json())

    def outcome(self, job: str) -> tuple[str, str]:
        """Wait for a job's end; its status and what it printed."""
        deadline = time.monotonic() + JOB_S
        while (status := self.job(job)["status"]) in ("PENDING", "RUNNING"):
            assert time.monotonic() < deadline, self.log(job)
            time.sleep(1.0)
        return status, self.log(job)

    def log(self, job: str) -> str:
        return str(self.get(f"/api/jobs/{job}/logs", self.token).json()["logs"])

    def joining(self, label: str, cpus: int, token: str | None = None) -> Node:
        """Start a node with a label, with the cluster's token or another one."""
        environment = self.environment
        if token is not None:
            environment = {name: value for name, value in environment.items() if name != "RAY_AUTH_TOKEN_PATH"}
            environment |= {"RAY_AUTH_TOKEN": token}
        (agent,) = free_ports(1)
        command = ["ray", "start", "--block", f"--address={self.address}", f"--num-cpus={cpus}"]
        command += [f"--labels=autodriverl/role={label}", f"--dashboard-agent-listen-port={agent}"]
        command += ["--disable-usage-stats", f"--object-store-memory={100 * 2**20}"]
        self.nodes.append(started(command, environment, self.folder / f"node-{len(self.nodes)}.log"))
        return self.nodes[-1]

    def alive(self) -> int:
        """How many nodes are up, the head among them."""
        nodes = self.get("/nodes?view=summary", self.token).json()["data"]["summary"]
        return sum(node["raylet"]["state"] == "ALIVE" for node in nodes)

    def wait_for_nodes(self, count: int) -> None:
        deadline = time.monotonic() + START_S
        while self.alive() != count:
            assert time.monotonic() < deadline, f"{self.alive()} nodes are up, not {count}"
            time.sleep(0.5)


def started(command: list[str], environment: dict[str, str], log: Path) -> Node:
    with log.open("w") as file:
        return subprocess.Popen(
            command, cwd=log.parent, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def lose(node: Node) -> None:
    """A node is gone at once, with all that runs on it, as a spot machine that is taken back."""
    processes = [psutil.Process(node.pid), *psutil.Process(node.pid).children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=60)
    node.wait(60)


def free_ports(count: int) -> list[int]:
    """Different ports that nothing listens on."""
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@contextmanager
def ray_head(cpus: int, *arguments: str) -> Iterator[Head]:
    """A head that answers inside the block, with further arguments of `ray start`; nodes that joined it end with it."""
    folder = Path(tempfile.mkdtemp(prefix="h", dir="/tmp"))  # short, for Ray's socket names
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    gcs, dashboard, client, agent = free_ports(4)
    unwanted = {"RAY_ADDRESS", "RAY_AUTH_TOKEN", "PYTHONPATH"}
    venv = Path(sys.executable).parent
    environment = {name: value for name, value in environ.items() if name not in unwanted} | {
        "PATH": f"{venv}{pathsep}{environ['PATH']}",
        "VIRTUAL_ENV": str(venv.parent),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_file),
        "RAY_API_SERVER_ADDRESS": f"http://127.0.0.1:{dashboard}",
    }
    command = ["ray", "start", "--head", "--block", f"--num-cpus={cpus}", "--dashboard-host=127.0.0.1", *arguments]
    command += [f"--port={gcs}", f"--dashboard-port={dashboard}", f"--ray-client-server-port={client}"]
    command += [f"--dashboard-agent-listen-port={agent}", f"--temp-dir={folder / 'ray'}", "--disable-usage-stats"]
    command += [f"--object-store-memory={200 * 2**20}"]
    head = Head(folder, f"127.0.0.1:{gcs}", f"http://127.0.0.1:{dashboard}", token_file.read_text(), environment)
    process = started(command, environment, folder / "log")
    try:
        _wait_until_up(head, process, folder / "log")
        yield head
    finally:
        for one in (*head.nodes, process):
            if one.poll() is None:
                one.send_signal(signal.SIGTERM)  # with --block it ends everything it started
        for one in (*head.nodes, process):
            one.wait(timeout=300)
        remove(folder)


def remove(folder: Path) -> None:
    """Remove a head's folder: its last processes may still write there for a moment after `ray start` has ended."""
    deadline = time.monotonic() + REMOVED_S
    while folder.exists():
        try:
            shutil.rmtree(folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)


def _wait_until_up(head: Head, process: Node, log: Path) -> None:
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
