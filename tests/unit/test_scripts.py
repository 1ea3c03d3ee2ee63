"""What the scripts say about bad input before anything is started, and what one answer is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

import train_grpo
from commands import score_answer
from commands.reinforce import _run_or_stop
from commands.script import RETRY, guarded
from failures import ActorLost
from policies.tiny import build_tiny_policy
from recipe import Recipe, load_recipe

Captured = pytest.CaptureFixture[str]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence(capsys: Captured) -> None:
    def write() -> int:
        with open("/dev/full", "w") as file:
            file.write("x")
        return 0

    assert guarded(write) == RETRY
    assert capsys.readouterr().err.startswith("error: the disk is full")


def test_a_run_that_may_be_retried_becomes_its_own_command_again(monkeypatch: pytest.MonkeyPatch) -> None:
    became: list[list[str]] = []
    monkeypatch.setattr("commands.script.RETRY_WAIT_S", 0.0)
    monkeypatch.setattr("os.execv", lambda program, arguments: became.append(arguments))
    monkeypatch.setattr("sys.orig_argv", ["python", "train_grpo.py", "a.yaml", "run.retries=3", "learner.lr=1e-4"])
    monkeypatch.setattr("commands.reinforce._run", lost)
    recipe = load_recipe(["recipes/tiny.yaml", "run.retries=3"])
    with pytest.raises(ActorLost):  # where another program takes this one's place, nothing follows
        _run_or_stop(recipe)
    (arguments,) = became
    assert arguments[1:] == ["train_grpo.py", "a.yaml", "learner.lr=1e-4", "run.resume=true", "run.retries=2"]
    with pytest.raises(ActorLost):
        _run_or_stop(load_recipe(["recipes/tiny.yaml"]))
    assert len(became) == 1


def lost(recipe: Recipe) -> bool:
    raise ActorLost("the node is gone")


def test_another_fault_of_the_disk_keeps_its_traceback(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        guarded(lambda: len((tmp_path / "absent").read_text()))


def refused(capsys: Captured, *arguments: str) -> str:
    """The one sentence that `train_grpo.py` refuses its input with."""
    assert guarded(lambda: train_grpo.main(list(arguments))) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    return errors[0]


def test_an_existing_run_folder_is_left_alone(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "kept").write_text("precious")
    message = refused(capsys, "recipes/tiny.yaml", f"run.root={tmp_path}", "data.options.scenes=20")
    assert f"{tmp_path / 'tiny'} already exists" in message
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["kept"]


def test_a_model_folder_without_a_processor_is_named(capsys: Captured, tmp_path: Path) -> None:
    folder = build_tiny_policy(tmp_path / "model")
    for name in ("processor_config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink(missing_ok=True)
    message = refused(capsys, "recipes/tiny.yaml", f"run.root={tmp_path}", f"policy.model={folder}")
    assert f"policy.model={folder} has no processor" in message


def test_missing_annotations_are_named(capsys: Captured, tmp_path: Path) -> None:
    message = refused(
        capsys,
        "recipes/drivelm.yaml",
        f"run.root={tmp_path}",
        "data.options.annotations=nowhere.json",
        f"data.options.image_root={tmp_path}",
    )
    assert "nowhere.json" in message


def test_one_answer_is_scored_with_its_parts_before_any_run(capsys: Captured, tmp_path: Path) -> None:
    given = ["recipes/tiny.yaml", f"run.root={tmp_path}", "data.options.scenes=8"]

    def printed(*more: str, code: int = 0) -> str:
        assert guarded(lambda: score_answer.main([*given, *more])) == code
        output = capsys.readouterr()
        return output.err if code else output.out

    ids = [line.split()[0] for line in printed().splitlines() if "behavior / multiple_choice" in line]
    scored = printed("--sample", ids[0], "--answer", "B")
    truth = scored.split("--- ground truth\n")[1].split("\n")[0]
    points = 100.0 if truth == "B" else 0.0
    assert [line.split() for line in scored.splitlines()[-2:]] == [
        ["option", f"{points:.2f}"],
        ["value", f"{points:.2f}"],
    ]
    assert f"some that it has: {ids[0]}" in printed("--sample", ids[0] + "x", "--answer", "B", code=2)
