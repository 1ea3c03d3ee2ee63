"""A run's checkpoints: sealed ones come back, damaged ones are passed over, those of another model are refused."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path
from typing import Any, cast

import pytest

from actors.checkpoint import (
    RunState,
    best_checkpoints,
    forget_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    save_checkpoint,
)
from actors.learning.group import LearnerGroup
from commands.sign_checkpoints import main
from evaluation.checkpoint_key import checkpoint_key
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
    with pytest.raises(CheckpointError, match="none of the 1 checkpoints .* the newest: it has no manifest.json"):
        newest_checkpoint(tmp_path)


async def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    def left(**also: Any) -> list[int]:
        forget_checkpoints(tmp_path, keep=2, **also)
        return sorted(int(path.name.removeprefix("step_")) for path in (tmp_path / "checkpoints").iterdir())

    def measured(**by_step: float) -> set[int]:
        lines = [json.dumps({"step": int(step[1:]), "figure": value}) for step, value in by_step.items()]
        (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return best_checkpoints(tmp_path, "figure")

    for step in range(8):
        await save_checkpoint(tmp_path, RunState(step, 0, 1), learners())
    assert measured(s2=5.0, s3=1.0) == {2, 4, 5, 6, 7}, "what is still being measured may be better"
    assert left(also=measured(s1=4.0, s2=5.0, s6=3.0)) == [2, 6, 7]
    assert left(also=measured(s1=9.0, s2=5.0, s7=6.0)) == [6, 7], "of what is there"
    assert measured() == {6, 7}


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


async def test_a_checkpoint_that_nobody_here_signed_is_refused_until_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs" / "mine"
    old = await save_checkpoint(run, RunState(1, 5, 1), learners())
    manifest = json.loads((old / "manifest.json").read_text())
    del manifest["signature"]  # as earlier versions wrote it
    (old / "manifest.json").write_text(json.dumps(manifest))
    said = rf"none of the 1 checkpoints .*not signed by the key .*python -m commands\.sign_checkpoints {run}$"
    with pytest.raises(CheckpointError, match=said):
        newest_checkpoint(run)
    with pytest.raises(CheckpointError, match="is not signed"):
        await load_checkpoint(run, 1, learners())
    assert main([str(run)]) == 0
    assert f"{old} is signed" in capsys.readouterr().out
    assert newest_checkpoint(run) == 1
    assert (await load_checkpoint(run, 1, learners())).step == 1


async def test_neither_another_key_nor_other_sums_nor_a_file_put_there_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "runs" / "mine"
    folder = await save_checkpoint(run, RunState(1, 5, 1), learners())
    (folder / "learner" / "mp_rank_01_model_states.pt").write_text("evil")
    with pytest.raises(CheckpointError, match=r"mp_rank_01_model_states\.pt is not in its manifest\.json"):
        newest_checkpoint(run)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["sha256"]["learner/mp_rank_01_model_states.pt"] = hashlib.sha256(b"evil").hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="is not signed by the key"):
        newest_checkpoint(run)
    whole = await save_checkpoint(run, RunState(2, 9, 1), learners())
    assert newest_checkpoint(run) == 2
    monkeypatch.setenv("AUTODRIVERL_CHECKPOINT_KEY", str(tmp_path / "keys" / "other.key"))
    with pytest.raises(CheckpointError, match="is not signed by the key .*other.key"):
        await load_checkpoint(run, int(whole.name[-1]), learners())


async def test_the_key_is_made_for_its_user_alone_and_lies_apart_from_the_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, key = tmp_path / "runs" / "mine", tmp_path / "keys" / "checkpoint.key"
    monkeypatch.setenv("AUTODRIVERL_CHECKPOINT_KEY", str(key))
    first = checkpoint_key(run)
    assert (first, stat.S_IMODE(key.stat().st_mode), len(first)) == (checkpoint_key(run), 0o600, 64)
    key.chmod(0o640)
    with pytest.raises(CheckpointError, match=f"other users can read the key .*: chmod 600 {key}"):
        checkpoint_key(run)
    key.chmod(0o600)
    key.write_text("short")
    with pytest.raises(CheckpointError, match="is no key of 32 characters: remove it"):
        checkpoint_key(run)
    monkeypatch.setenv("AUTODRIVERL_CHECKPOINT_KEY", str(tmp_path / "runs" / "checkpoint.key"))
    with pytest.raises(CheckpointError, match="lies among the runs in .*: set AUTODRIVERL_CHECKPOINT_KEY"):
        checkpoint_key(run)
