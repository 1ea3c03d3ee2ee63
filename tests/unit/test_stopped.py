"""How a run ends that did not take all its steps: what it says, and its exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.record.run_folder import check_new
from commands.script import FAILED, INTERRUPTED, PASSING, RETRY, UNUSABLE, guarded
from commands.stopped import stopped
from evaluation.run_record import checkpoint_folder
from failures import ActorLost, ActorTimeout, DiskFull, LearnerLost, RunFolderError, SyncError, TooManyMasked
from recipe import Recipe, RecipeError


def recipe(root: Path, **run: object) -> Recipe:
    return Recipe.model_validate(
        {"run": {"name": "r", "root": str(root), "steps": 9, **run}, "warm_start": {"steps": 5}}
    )


def test_a_run_says_where_it_stopped_and_how_to_go_on(tmp_path: Path) -> None:
    mine, on = recipe(tmp_path), "go on with the same command and run.resume=true"
    assert stopped(mine) == "r stopped before it began: the same command starts it"
    (tmp_path / "r").mkdir()
    assert stopped(mine) == f"r stopped before its first checkpoint; {on}"
    checkpoint_folder(tmp_path / "r" / "supervised", 3).mkdir(parents=True)
    assert stopped(mine) == f"r stopped after step 3 of 5 of its warm start; {on}"
    for step in (0, 7):
        checkpoint_folder(tmp_path / "r", step).mkdir(parents=True)
    (tmp_path / "r/checkpoints/step_000008.part").mkdir()
    assert stopped(mine) == f"r stopped after step 7 of 9; {on}"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RecipeError("unknown key"), 2),
        (SyncError("other weights"), 1),
        (TooManyMasked("no judge"), RETRY),
        (DiskFull("no room"), RETRY),
        (LearnerLost("rank 0"), RETRY),
        (ActorTimeout("engine 0"), RETRY),
        (OSError(28, "No space left on device", "/x"), RETRY),
        (OSError(27, "File too large"), RETRY),
        (KeyboardInterrupt(), INTERRUPTED),
    ],
)
def test_exit_codes_tell_what_another_try_may_mend_from_what_it_will_not(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> int:
        raise error

    assert guarded(fail) == code
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_no_failure_is_of_two_kinds() -> None:
    kinds = [UNUSABLE, FAILED, PASSING]
    every = [one for kind in kinds for one in kind]
    assert len(set(every)) == len(every)
    assert issubclass(LearnerLost, ActorLost)


def test_a_run_beyond_its_steps_is_refused_at_once(tmp_path: Path) -> None:
    checkpoint_folder(tmp_path / "r", 28).mkdir(parents=True)
    with pytest.raises(RunFolderError, match=r"stands at step 28, and run\.steps=9: set run\.steps=28 or more"):
        check_new(recipe(tmp_path, resume=True))
    check_new(recipe(tmp_path, resume="auto", steps=28))
