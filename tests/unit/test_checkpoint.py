"""A run's checkpoints: sealed ones come back, damaged ones are passed over, those of another model are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from actors.checkpoint import RunState, load_checkpoint, newest_checkpoint, save_checkpoint
from actors.learning.group import LearnerGroup
from failures import CheckpointError


class Learners:
    """As many ranks as asked for, whose weights are one file."""

    def __init__(self, model: str = "a llava model", ranks: int = 1) -> None:
        self.ranks, self._model = [None] * ranks, model
        self.loaded: str | None = None
        self.settings = type("Settings", (), {"zero_stage": 0})

    async def model(self) -> str:
        return self._model

    async def save(self, folder: Path) -> None:
        (folder / "weights").write_text(self._model)

    async def load(self, folder: Path, written_by: int | None = None) -> None:
        self.loaded = (folder / "weights").read_text()


def learners(*arguments: Any) -> LearnerGroup:
    return cast(LearnerGroup, Learners(*arguments))


async def test_a_checkpoint_gives_back_where_the_run_stood(tmp_path: Path) -> None:
    await save_checkpoint(tmp_path, RunState(3, 17, 1, kl_beta=0.02), learners())
    again = Learners(ranks=2)
    assert newest_checkpoint(tmp_path) == 3
    assert await load_checkpoint(tmp_path, 3, cast(LearnerGroup, again)) == RunState(3, 17, 2, kl_beta=0.02)
    assert again.loaded == "a llava model"


async def test_a_damaged_checkpoint_is_passed_over_for_the_one_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await save_checkpoint(tmp_path, RunState(1, 5, 1), learners())
    newest = await save_checkpoint(tmp_path, RunState(2, 9, 1), learners())
    (newest / "learner" / "weights").write_text("cut")
    assert newest_checkpoint(tmp_path) == 1
    assert "learner/weights does not match its checksum" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="step_000002 cannot be loaded: learner/weights does not match"):
        await load_checkpoint(tmp_path, 2, learners())


async def test_a_run_without_an_intact_checkpoint_is_not_begun_anew(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    only = await save_checkpoint(tmp_path, RunState(1, 5, 1), learners())
    (only / "manifest.json").unlink()
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints"):
        newest_checkpoint(tmp_path)


async def test_an_interrupted_write_leaves_the_older_checkpoint(tmp_path: Path) -> None:
    await save_checkpoint(tmp_path, RunState(1, 5, 1), learners())
    (tmp_path / "checkpoints" / "step_000002.part" / "learner").mkdir(parents=True)
    assert newest_checkpoint(tmp_path) == 1
    await save_checkpoint(tmp_path, RunState(2, 9, 1), learners())
    assert newest_checkpoint(tmp_path) == 2


async def test_a_checkpoint_of_another_model_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    await save_checkpoint(tmp_path, RunState(1, 5, 1), learners())
    other = Learners("a smolvlm model")
    with pytest.raises(CheckpointError, match="llava model.*smolvlm model"):
        await load_checkpoint(tmp_path, 1, cast(LearnerGroup, other))
    assert other.loaded is None
