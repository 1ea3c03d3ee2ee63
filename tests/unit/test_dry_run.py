"""What `--dry-run` refuses: whatever a run would refuse without having read data or weights."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import train_grpo
import train_ppo
from commands.script import guarded
from commands.supervise import supervise
from recipe import load_stages

ROOT = Path(__file__).parents[2]


def dry_run(capsys: pytest.CaptureFixture[str], *overrides: str) -> tuple[int, str]:
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
            "rollout.backend=docs.examples.transport:FileTransport",
            "FileTransport lacks abilities, environment",
        ),
        (
            "rollout.options={max_concurent: 4}",
            "unknown key rollout.options.max_concurent (did you mean",
        ),
        ("rollout.options={memory_gib: -1}", "rollout.options.memory_gib: Input should be greater than 0"),
        ("sync.transport=nccl", "sync.transport=nccl cannot serve this placement: it needs a whole GPU for every"),
        ("sync.transport=glo", "sync.transport=glo is unknown (did you mean gloo?"),
        ("data.source=drivlm", "data.source=drivlm is unknown (did you mean drivelm?, or module:Class of your own)"),
        ("data.source=nowhere:Drives", "data.source=nowhere:Drives: cannot import nowhere"),
        ("data.options.scens=5", "unknown key data.options.scens (did you mean scenes?)"),
        ("data.options.scenes=none", "data.options.scenes: Input should be a valid integer"),
        (
            "evaluation.suites={drivelm_hrad: {answers: x}}",
            "evaluation.suites=drivelm_hrad is unknown (did you mean drivelm_hard?",
        ),
        ("evaluation.suites={drivelm_hard: {}}", "evaluation.suites.drivelm_hard.answers is missing"),
        ("data.task_shares.flying=1", "data.task_shares names flying, but no training sample has that task"),
        (
            "reward.routes=[{task: flying, kind: any, scorers: {rouge_l: 1}}]",
            "no route of reward.routes matches behavior / multiple_choice",
        ),
        ("rollout.engines=2000", "the processes reserve 2001 CPUs, 2000 of them for rollout"),
        ("rollout.max_tokens=2000", "max_tokens=2000 leaves no room for a prompt in max_model_len=1024"),
    ],
)
def test_a_recipe_that_no_run_would_take_is_refused(
    capsys: pytest.CaptureFixture[str], override: str, sentence: str
) -> None:
    code, said = dry_run(capsys, override)
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
    code, said = dry_run(capsys, "rollout.backend=transformers", *overrides)
    assert (code, sentence in said, said.endswith("rollout.backend=transformers does not\n")) == (2, True, True)


def test_a_folder_in_the_home_is_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ckpt").mkdir()
    code, said = dry_run(capsys, "policy.model=~/ckpt")
    assert code == 2
    assert (
        f"policy.model={tmp_path / 'ckpt'} is neither a checkpoint folder nor a known hub name: no config.json" in said
    )


def test_a_model_folder_without_weights_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    code, said = dry_run(capsys, f"policy.model={tmp_path}")
    assert (code, f"policy.model={tmp_path} holds no weights" in said) == (2, True)


def test_frames_of_one_camera_are_counted_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    given = ("annotations=a.json", "reasons=r.json", "image_root=i", "frames=8")
    code, said = dry_run(capsys, "data.source=bdd_oia", *(f"data.options.{one}" for one in given))
    assert (code, "a prompt: 8 images (as bdd_oia has them, " in said) == (0, True)


def test_paths_that_are_still_to_be_given_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = dry_run(capsys, "data.source=drivelm", "data.options.image_root=nuscenes")
    assert code == 0
    assert said.splitlines()[-1].startswith("to be given before it runs: data.options.annotations (the JSON file)")


STAGES = "stages: [{name: a}, {name: b, data.source: drivlm}]\n"
LATER_ENGINE = "stages: [{name: a}, {name: b, rollout.backend: transformer}]\n"
OPTIONS = [
    ("train_grpo:main", "", "data.source=drivelm", "needs data.options.annotations (the JSON file)"),
    ("train_grpo:main", "", "data.options.scens=5", "unknown key data.options.scens (did you mean scenes?)"),
    ("train_grpo:main", STAGES, "run.steps=1", "data.source=drivlm is unknown"),
    ("train_grpo:main", "", "rollout.options.compil=true", "unknown key rollout.options.compil (did you mean"),
    ("train_grpo:main", LATER_ENGINE, "run.steps=1", "rollout.backend=transformer is unknown"),
    ("train_grpo:main", "", "sync.transport=nccl", "sync.transport=nccl cannot serve this placement"),
    ("commands.evaluate:main", "", "rollout.options.compil=true", "unknown key rollout.options.compil"),
    ("commands.supervise:supervise", "", "data.options.scens=5", "unknown key data.options.scens"),
    ("commands.evaluate:main", "", "data.source=drivelm", "data.source=drivelm needs data.options.annotations"),
]
CALLS = """
import importlib, sys
from commands.script import guarded
from commands.supervise import supervise
for number, (where, recipe, override) in enumerate({calls}):
    module, _, name = where.partition(":")
    print("case", number, file=sys.stderr)
    function = getattr(importlib.import_module(module), name)
    print("code", guarded(lambda: function([recipe, override])), "torch" in sys.modules, file=sys.stderr)
"""


@pytest.mark.slow
def test_a_run_is_refused_for_its_options_before_torch_is_imported(tmp_path: Path) -> None:
    calls = []
    for number, (where, more, override, _) in enumerate(OPTIONS):
        recipe = tmp_path / f"{number}.yaml"
        recipe.write_text("run: {name: own}\nwarm_start: {steps: 1}\n" + more)
        calls.append((where, str(recipe), override))
    command = [sys.executable, "-c", CALLS.format(calls=calls)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    _, *cases = re.split(r"case \d+\n", done.stderr)
    assert len(cases) == len(OPTIONS)
    for case, (_, _, _, sentence) in zip(cases, OPTIONS, strict=True):
        assert sentence in case
        assert case.endswith("code 2 False\n")


def test_without_a_recipe_the_recipes_that_are_here_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(lambda: train_grpo.main([])) == 2
    assert "name a recipe file; recipes here: " in capsys.readouterr().err


RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.yaml"))
SUPERVISED = ("driverx_sft", "drivelmm_o1", "reasondrive_lora", "smolvlm_sft")
WITH_CRITIC = ("ppo", "smolvlm_a2c_clip", "tiny_a2c")


def shown(capsys: pytest.CaptureFixture[str], name: str) -> str:
    main = supervise if name in SUPERVISED else train_ppo.main if name in WITH_CRITIC else train_grpo.main
    assert guarded(lambda: main([f"recipes/{name}.yaml", "--dry-run"])) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_resolves_and_shows_its_placement(capsys: pytest.CaptureFixture[str], name: str) -> None:
    output = shown(capsys, name)
    for recipe in load_stages([str(ROOT / f"recipes/{name}.yaml")]):
        assert f"name: {recipe.run.name}\n" in output
    assert "learner" in output
    assert ("rollout " in output.split("placement")[-1]) == (name not in SUPERVISED)


@pytest.mark.slow
def test_the_script_itself_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "train_grpo.py", "recipes/tiny.yaml", "--dry-run"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert (done.returncode, done.stdout) == (0, shown(capsys, "tiny")), done.stderr
