"""Samples on disk are the same samples: in order, in parts, by id; and training draws the same ones from them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample import DrivingSample, Trajectory
from data.sample_store import ById, Joined, chosen, scenes_of, stored, tasks_of
from data.split import TaskBalancedOrder, split_by_scene, with_a_share

TASKS = ("perception", "planning", "merging")


def samples(count: int) -> list[DrivingSample]:
    return [
        DrivingSample(
            id=f"q{number}",
            scene_id=f"scene-{number // 3}",
            frame_id=f"frame-{number}",
            task=TASKS[number % 3],
            kind="open_ended",
            question="Où? 是",
            answer=str(number),
            images={"CAM_FRONT": f"/images/{number}.jpg"},
            labels={"action": (1, 2)},
            trajectory=Trajectory(((0.0, 1.0, 0.0),), (), "left") if number % 2 else None,
        )
        for number in range(count)
    ]


@given(count=st.integers(0, 20))
def test_what_is_stored_is_read_back_in_order(count: int) -> None:
    given = samples(count)
    held = stored(iter(given))
    assert list(held) == given
    assert [held[index] for index in range(-count, count)] == given + given
    assert list(reversed(held)) == given[::-1]
    assert list(held[1:3]) == given[1:3]
    assert list(tasks_of(held)) == list(tasks_of(given))
    assert list(scenes_of(held)) == list(scenes_of(given))
    with pytest.raises(IndexError):
        held[count]


def test_some_of_them_are_found_by_their_ids_and_the_others_are_not() -> None:
    given = samples(9)
    some = chosen(stored(given), [7, 2])
    by_id = ById(some)
    assert list(some) == [given[7], given[2]]
    assert (by_id["q2"], by_id.get("q3"), len(by_id), set(by_id)) == (given[2], None, 2, {"q2", "q7"})
    assert dict(ById(given)) == {sample.id: sample for sample in given}


def test_two_sequences_are_read_as_one() -> None:
    given = samples(5)
    both = Joined(stored(given[:2]), given[2:])
    assert (list(both), both[4], both[-5], both[1:3], len(both)) == (given, given[4], given[0], given[1:3], 5)


@given(position=st.integers(0, 40))
def test_split_and_order_are_those_of_samples_in_memory(position: int) -> None:
    given = samples(30)
    in_memory, on_disk = (split_by_scene(held, 0.25, 1) for held in (given, stored(given)))
    assert (list(on_disk.train), list(on_disk.held_out)) == (list(in_memory.train), list(in_memory.held_out))
    shares = {"planning": 2.0, "merging": 1.0}
    orders = [TaskBalancedOrder(split.train, shares, 7, position) for split in (in_memory, on_disk)]
    assert orders[0].take(25) == orders[1].take(25)
    assert list(with_a_share(on_disk.train, shares)) == list(with_a_share(in_memory.train, shares))


def test_no_file_stays_behind_and_no_name_is_left_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    opened = len(os.listdir("/proc/self/fd"))
    held = stored(samples(9))
    assert list(tmp_path.iterdir()) == []
    del held
    assert len(os.listdir("/proc/self/fd")) == opened
