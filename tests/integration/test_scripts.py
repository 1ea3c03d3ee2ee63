"""The scripts as a person runs them: bad input (more of it: `unit/test_scripts.py`), Ctrl-C, and a finished run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.integration.conftest import QUICK_ENGINE, ROOT, SMALL

DEADLINE_S = 600


def script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_S)


def refused(*arguments: str) -> str:
    """The one sentence a script refuses its input with."""
    done = script("train_grpo.py", *arguments)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stderr
    return errors[0]


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A script that ends with the test. It hears Ctrl-C, also where a shell's background ignores it."""
    command = [sys.executable, *arguments]
    given: Any = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **given)
    try:
        yield process
    finally:
        while process.poll() is None:  # the second signal ends it at once
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.communicate(timeout=30)


def interrupted(process: subprocess.Popen[str]) -> str:
    """What a script printed that Ctrl-C ended."""
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 130, output + errors
    return output


def test_an_unknown_key_is_refused_with_a_suggestion() -> None:
    message = refused("recipes/tiny.yaml", "learner.learning_rat=1")
    assert "unknown key learner.learning_rat" in message


def test_more_cpus_than_the_machine_has_names_the_bundle(tmp_path: Path) -> None:
    message = refused("recipes/tiny.yaml", f"run.root={tmp_path}", "data.options.scenes=20", "rollout.cpus=4096")
    assert "rollout 0" in message
    assert "4096" in message


def test_ctrl_c_writes_a_checkpoint_and_the_run_can_go_on(tmp_path: Path) -> None:
    arguments = [*SMALL, QUICK_ENGINE, f"run.root={tmp_path}", "run.steps=500", "evaluation.before_and_after=false"]
    arguments.append("algorithm.kl_beta=0.01")  # the reference must come back too
    metrics = tmp_path / "tiny" / "metrics.jsonl"
    deadline = time.monotonic() + DEADLINE_S
    with running("train_grpo.py", "recipes/tiny.yaml", *arguments) as process:
        while not (metrics.is_file() and metrics.read_text().count("\n") >= 2):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        said = interrupted(process)
        assert "stopping after this step with a checkpoint" in said

    done = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert f"tiny stopped after step {done[-1]} of 500; go on with the same command and run.resume=true" in said
    newest = max((tmp_path / "tiny/checkpoints").iterdir())
    assert newest.name == f"step_{done[-1]:06d}"
    assert (tmp_path / "tiny/report.html").is_file()
    assert (tmp_path / "tiny/policy/model.safetensors").is_file()

    arguments[arguments.index("run.steps=500")] = f"run.steps={done[-1] + 1}"
    again = script("train_grpo.py", "recipes/tiny.yaml", *arguments, "run.resume=true")
    assert again.returncode == 0, again.stderr
    steps = [json.loads(line)["step"] for line in metrics.read_text().splitlines()]
    assert steps == list(range(1, done[-1] + 2))


@pytest.mark.fault
def test_ctrl_c_in_the_warm_start_keeps_its_steps(tmp_path: Path) -> None:
    arguments = [*SMALL, QUICK_ENGINE, f"run.root={tmp_path}", "warm_start.steps=2000", "warm_start.batch_size=2"]
    arguments.append("evaluation.before_and_after=false")
    log, deadline = tmp_path / "tiny" / "warm_start.jsonl", time.monotonic() + DEADLINE_S
    with running("train_grpo.py", "recipes/tiny.yaml", *arguments) as process:
        while not (log.is_file() and log.read_text().count("\n") >= 3):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.2)
        said = interrupted(process)
    done = json.loads(log.read_text().splitlines()[-1])["step"]
    assert f"tiny stopped after step {done} of 2000 of its warm start; go on with the same command and" in said
    again = script("train_grpo.py", "recipes/tiny.yaml", *arguments, f"warm_start.steps={done + 2}", "run.resume=auto")
    assert again.returncode == 0, again.stderr
    assert f"going on from step {done}" in again.stdout
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(1, done + 3))
    assert not (tmp_path / "tiny" / "supervised").exists()


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps (procps) is not installed")
@pytest.mark.parametrize("part", ["data", "ray", "policy"])
def test_ctrl_c_during_the_start_leaves_no_process_behind(tmp_path: Path, part: str) -> None:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:  # Ray's sockets want a short path
        folders = (f"run.root={tmp_path}", f"cluster.temp_dir={short}")
        with running("train_grpo.py", "recipes/tiny.yaml", *SMALL, QUICK_ENGINE, *folders) as process:
            assert process.stdout is not None
            while (line := process.stdout.readline()) and not line.startswith(f"{part}: "):
                pass
            interrupted(process)
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert short not in listing
        assert not os.listdir(short)


def test_a_killed_run_leaves_no_process_and_no_file_of_ray_behind(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:  # Ray's sockets want a short path
        folders = (f"run.root={tmp_path}", f"cluster.temp_dir={short}")
        with running("train_grpo.py", "recipes/tiny.yaml", *SMALL, QUICK_ENGINE, *folders) as process:
            assert process.stdout is not None
            while (line := process.stdout.readline()) and not line.startswith("policy: "):
                pass
            started = psutil.Process(process.pid).children(recursive=True)
            assert os.listdir(short)
            process.kill()
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive
        assert not os.listdir(short)


@pytest.mark.fault
def test_a_run_whose_own_ray_node_ends_may_be_started_again_and_leaves_nothing(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:
        folders = (f"run.root={tmp_path}", f"cluster.temp_dir={short}", "run.steps=1000")
        with running("train_grpo.py", "recipes/tiny.yaml", *SMALL, QUICK_ENGINE, *folders) as process:
            assert process.stdout is not None
            while (line := process.stdout.readline()) and not line.startswith("step 1/"):
                pass
            started = psutil.Process(process.pid).children(recursive=True)
            (raylet,) = (one for one in started if one.name() == "raylet")
            raylet.kill()
            _, said = process.communicate(timeout=300)
        assert process.returncode == 75, said
        assert "the Ray node of this process ended" in said
        _, alive = psutil.wait_procs(started, timeout=60)
        assert not alive
        assert not os.listdir(short)


@pytest.mark.skipif(shutil.which("ps") is None, reason="ps (procps) is not installed")
def test_a_finished_run_leaves_no_process_behind(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="s", dir="/tmp") as short:  # Ray's sockets want a short path
        folders = (f"run.root={tmp_path}", f"cluster.temp_dir={short}")
        done = script("train_sft.py", "recipes/tiny.yaml", *SMALL, *folders)
        assert done.returncode == 0, done.stderr
        listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        assert short not in listing
        assert not os.listdir(short)
    assert os.listdir(tmp_path / "tiny/policy")
