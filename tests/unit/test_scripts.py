"""What the scripts say about bad input before anything is started, and what one answer is worth."""

from __future__ import annotations

from pathlib import Path

import pytest

import train_grpo
from commands import score_answer
from commands.script import RETRY, guarded
from policies.tiny import build_tiny_policy

Captured = pytest.CaptureFixture[str]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence(capsys: Captured) -> None:
    def write() -> int:
        with open("/dev/full", "w") as file:
            file.write("x")
        return 0

    assert guarded(write) == RETRY
    assert capsys.readouterr().err.startswith("error: the disk is full")


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
