"""A disk without room: one typed error, what was there stays as it was, and nothing half written is left."""

from __future__ import annotations

import contextlib
import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from actors.checkpoint import RunState, newest_checkpoint, save_checkpoint
from actors.learning.group import LearnerGroup
from actors.record.journal import Journal
from actors.record.run_folder import create_run_folder
from data.rollout import Rollout
from data.sample import DrivingSample
from evaluation.rollout_rows import read_rollouts, write_rollouts
from evaluation.run_record import read_run
from failures import DiskFull
from recipe import Recipe
from rewards.group import Group, ScoredRollout
from rewards.judge_cache import JudgeCache
from rewards.score import Score

SAMPLE = DrivingSample("q", "scene", "frame", "behavior", "open_ended", "What now?", "Go.", {})


@contextlib.contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """As on a full disk: the kernel refuses what a file grows beyond (EFBIG, where a disk says ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def group(text: str = "Go.") -> Group:
    rollout = Rollout("r", "q", (1,), (7,), (-0.5,), text, "stop", 0, "engine", 0.0, 1.0)
    return Group(SAMPLE, (ScoredRollout(rollout, Score(50.0), 1.0),))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return create_run_folder(recipe(tmp_path))


def recipe(root: Path) -> Recipe:
    return Recipe.model_validate({"run": {"name": "full", "root": str(root)}})


def test_a_batch_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "step_000001.parquet"
    write_rollouts(path, 1, [group()], {})
    with no_file_larger_than(1000), pytest.raises(DiskFull, match=r"no room to write .*step_000001\.parquet: free"):
        write_rollouts(path, 1, [group("other")], {})
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    assert read_rollouts(path)[0][0].rollouts[0].rollout.text == "Go."


def test_a_line_of_metrics_that_had_no_room_is_a_typed_error_and_the_next_session_reads_the_others(
    tmp_path: Path, folder: Path
) -> None:
    with Journal(recipe(tmp_path), folder) as journal:
        journal.record(1, [group()], {"loss": 1.0})
        room = (folder / "metrics.jsonl").stat().st_size + 20
        with no_file_larger_than(room), pytest.raises(DiskFull, match=r"metrics\.jsonl"):
            journal.record(2, [group()], {"loss": 2.0})
    with Journal(recipe(tmp_path), folder) as journal:
        journal.record(2, [group()], {"loss": 3.0})
    run = read_run(folder)
    assert [step["loss"] for step in run.steps] == [1.0, 3.0]
    assert run.dropped == {"unreadable lines of metrics.jsonl": 1}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # TensorBoard's own thread
def test_without_room_for_curves_the_run_goes_on_without_them(tmp_path: Path, folder: Path) -> None:
    many = {f"metric/{number}": float(number) for number in range(400)}
    with Journal(recipe(tmp_path), folder) as journal:
        with no_file_larger_than(12_000):  # the line of metrics has room, its curves have not
            journal.record(1, [group()], many)
        journal.record(2, [group()], {})
    assert [step["step"] for step in read_run(folder).steps] == [1, 2]
    assert [alarm["kind"] for alarm in read_run(folder).alarms] == ["no_room_for_curves"]


class LargeLearners:
    """Their weights take a megabyte."""

    ranks = (None,)

    async def model(self) -> str:
        return "large"

    async def save(self, folder: Path) -> None:
        (folder / "weights").write_bytes(bytes(2**20))


async def test_a_checkpoint_that_has_no_room_leaves_the_one_before_it_and_nothing_else(tmp_path: Path) -> None:
    learners = cast(LearnerGroup, LargeLearners())
    await save_checkpoint(tmp_path, RunState(1, 4, 1), learners)
    with no_file_larger_than(2**19), pytest.raises(DiskFull, match="step_000002: free some space"):
        await save_checkpoint(tmp_path, RunState(2, 8, 1), learners)
    assert [one.name for one in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    assert newest_checkpoint(tmp_path) == 1


def test_a_judgement_that_cannot_be_kept_is_counted_and_given_all_the_same(tmp_path: Path) -> None:
    cache = JudgeCache(tmp_path / "cache.sqlite")
    cache.put("a", "rubric", "judge", json.dumps({"score": 1}))
    size = max(path.stat().st_size for path in tmp_path.iterdir())
    with no_file_larger_than(size):
        cache.put("b", "rubric", "judge", "x" * 20_000)
    assert (cache.unkept, cache.corrupt) == (1, 0)
    cache.put("c", "rubric", "judge", "y")
    assert [cache.get(key) for key in "abc"] == [json.dumps({"score": 1}), None, "y"]
    cache.close()
