"""What `--dry-run` refuses: whatever a run would refuse without having read data or weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import train_grpo
from commands.script import guarded

ROOT = Path(__file__).parents[2]


def told(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, str]:
    code = guarded(lambda: train_grpo.main(["recipes/tiny.yaml", "--dry-run", *overrides]))
    output = capsys.readouterr()
    return code, output.err or output.out


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("policy.model=/nope", "policy.model=/nope is neither a folder nor"),
        ("policy.model=../ckpt", "policy.model=../ckpt is neither a folder nor"),
        ("reward.routes=[{kind: any, scorers: {rougel: 1}}]", "unknown scorer rougel (did you mean rouge_l?)"),
        ("reward.routes=[{kind: any, scorers: {judge: 1}}]", "reward.judge is not set"),
        ("reward.routes=[{kind: any, scorers: {'my_rewards:short': 1}}]", "my_rewards"),
        ("rollout.backend=vlm", "rollout.backend=vlm is unknown (did you mean vllm?, or module:Class of your own)"),
        ("rollout.backend=no_such:Engine", "rollout.backend=no_such:Engine: cannot import no_such"),
        (
            "rollout.backend=tests.file_transport:FileTransport",
            "FileTransport lacks abilities, environment",
        ),
        (
            "rollout.options={max_concurent: 4}",
            "unknown key rollout.options.max_concurent (did you mean",
        ),
        ("rollout.options={memory_gib: -1}", "rollout.options.memory_gib: Input should be greater than 0"),
        ("sync.transport=nccl", "sync.transport=nccl cannot serve this placement: it needs a whole GPU for every"),
        ("sync.transport=glo", "sync.transport=glo is unknown (did you mean gloo?"),
        ("evaluation.suites={drivelm_hrad: {answers: x}}", "unknown benchmark drivelm_hrad"),
        ("evaluation.suites={drivelm_hard: {}}", "the following settings are required: answers"),
    ],
)
def test_a_recipe_that_no_run_would_take_is_refused(
    capsys: pytest.CaptureFixture[str], override: str, sentence: str
) -> None:
    code, said = told(capsys, override)
    assert code == 2
    assert said.startswith("error: ")
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (("rollout.adapters=apart", "policy.lora={rank: 4}"), "rollout.adapters=apart needs an engine that loads"),
        (
            ("rollout.tensor_parallel=2", "rollout.gpus=2"),
            "rollout.tensor_parallel=2 needs an engine that spreads",
        ),
    ],
)
def test_what_an_engine_cannot_do_is_refused(
    capsys: pytest.CaptureFixture[str], overrides: tuple[str, ...], sentence: str
) -> None:
    code, said = told(capsys, "rollout.backend=transformers", *overrides)
    assert (code, sentence in said, said.endswith("rollout.backend=transformers does not\n")) == (2, True, True)


def test_a_recipe_is_refused_and_shown_without_torch() -> None:
    script = "import sys, train_grpo; train_grpo.main(sys.argv[1:]); assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", script, "recipes/tiny.yaml", "--dry-run", "rollout.options.compile=true"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_folder_in_the_home_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ckpt").mkdir()
    code, said = told(capsys, "policy.model=~/ckpt")
    assert (code, "does not hold both config.json and safetensors weights" in said) == (0, True)


def test_frames_of_one_camera_are_counted_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("data.source=bdd_oia", "data.annotations=a.json", "data.reasons=r.json", "data.image_root=i")
    code, said = told(capsys, *given, "data.frames=8")
    assert (code, "a prompt: 8 images (8 frames of one camera" in said) == (0, True)


def test_paths_that_are_still_to_be_given_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, "data.source=drivelm", "data.image_root=nuscenes")
    assert code == 0
    assert said.splitlines()[-1].startswith("to be given before it runs: data.annotations (")


def test_without_a_recipe_the_recipes_that_are_here_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: train_grpo.main([])) == 2
    assert "name a recipe file; recipes here: " in capsys.readouterr().err
