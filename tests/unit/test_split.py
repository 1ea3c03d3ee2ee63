from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.sample import TASKS, DrivingSample, Task
from data.sample_store import stored
from data.settings import DataSettings
from data.split import Split, TaskBalancedOrder, check_disjoint, split_by_scene, with_a_share

EQUAL: dict[str, float] = dict.fromkeys(TASKS, 1.0)


def make_sample(scene: int, number: int, task: Task = "planning") -> DrivingSample:
    frame = f"f{scene}"
    return DrivingSample(
        f"s{scene}_{frame}_{task}{number}", f"s{scene}", frame, task, "open_ended", "Q?", "A.",
        {"CAM_FRONT": f"/images/{frame}.jpg"},
    )  # fmt: skip


def make_pool(counts: dict[Task, int]) -> list[DrivingSample]:
    return [make_sample(0, number, task) for task, count in counts.items() for number in range(count)]


# --- split ------------------------------------------------------------------------------------------------------------


@given(
    scenes=st.lists(st.integers(0, 60), min_size=2, max_size=80),
    share=st.floats(0.001, 0.999),
    seed=st.integers(),
)
def test_no_scene_frame_or_image_is_on_both_sides_and_nothing_is_lost(
    scenes: list[int], share: float, seed: int
) -> None:
    samples = [make_sample(scene, number) for number, scene in enumerate(scenes)]
    if len(set(scenes)) < 2:
        return
    split = split_by_scene(samples, share, seed)
    for value in (lambda s: s.scene_id, lambda s: s.frame_id, lambda s: s.images["CAM_FRONT"]):
        assert {value(s) for s in split.train}.isdisjoint(value(s) for s in split.held_out)
    assert split.train
    assert split.held_out
    assert sorted(s.id for s in (*split.train, *split.held_out)) == sorted(s.id for s in samples)


def test_the_held_out_share_counts_scenes_not_questions() -> None:
    samples = [make_sample(scene, number) for scene in range(8) for number in range(1 + 20 * scene)]
    split = split_by_scene(samples, 0.25, seed=3)
    assert len({s.scene_id for s in split.held_out}) == 2


def test_a_split_depends_on_the_seed_and_not_on_the_order_of_samples() -> None:
    samples = [make_sample(scene, 0) for scene in range(30)]
    held = {s.id for s in split_by_scene(samples, 0.3, 1).held_out}
    assert held == {s.id for s in split_by_scene(samples[::-1], 0.3, 1).held_out}
    assert held != {s.id for s in split_by_scene(samples, 0.3, 2).held_out}


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_two_scenes_give_one_to_each_side(share: float) -> None:
    split = split_by_scene([make_sample(0, 0), make_sample(1, 0)], share, 0)
    assert (len(split.train), len(split.held_out)) == (1, 1)


def test_one_scene_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"at least two scenes.*hold 1 \(s0\)"):
        split_by_scene([make_sample(0, 0), make_sample(0, 1)], 0.25, 0)


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_held_out_share_outside_0_and_1_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="data.held_out must lie between 0 and 1"):
        split_by_scene([make_sample(0, 0), make_sample(1, 0)], share, 0)


@pytest.mark.parametrize("held", [tuple, stored])
def test_a_frame_or_an_image_shared_by_two_scenes_is_refused(held: Callable[..., Sequence[DrivingSample]]) -> None:
    one, other = make_sample(0, 0), make_sample(1, 0)
    with pytest.raises(DataError, match="1 frame_id.*first f0"):
        split_by_scene(held([one, replace(other, frame_id="f0")]), 0.5, 0)
    with pytest.raises(DataError, match=r"1 image.*first /images/f0\.jpg"):
        split_by_scene(held([one, replace(other, images=one.images)]), 0.5, 0)
    with pytest.raises(DataError, match="1 scene_id.*first s0"):
        check_disjoint(Split(held([one]), held([one])))


def test_samples_on_disk_that_share_nothing_are_not_read_to_see_it(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = stored([make_sample(scene, 0) for scene in range(4)])
    monkeypatch.setattr("data.sample_store._Files.read", lambda self, row: pytest.fail("a sample was read"))
    split = split_by_scene(samples, 0.25, 0)
    assert (len(split.train), len(split.held_out)) == (3, 1)


# --- order ------------------------------------------------------------------------------------------------------------

SHARES = st.dictionaries(st.sampled_from(TASKS), st.floats(0.01, 10), min_size=1)


@given(shares=SHARES, draws=st.integers(1, 200), seed=st.integers(0, 5))
def test_every_task_keeps_to_its_share_in_any_prefix(shares: dict[str, float], draws: int, seed: int) -> None:
    pool = make_pool({"perception": 40, "prediction": 7, "planning": 3, "behavior": 1})
    drawn = Counter(sample.task for sample in TaskBalancedOrder(pool, shares, seed).take(draws))
    total = sum(shares.values())
    for task in TASKS:
        assert abs(drawn[task] - draws * shares.get(task, 0) / total) < 2


def test_nine_behavior_questions_are_drawn_as_often_as_hundreds_of_others() -> None:
    pool = make_pool({"perception": 337, "prediction": 271, "planning": 173, "behavior": 9})
    drawn = TaskBalancedOrder(pool, EQUAL, 0).take(160)
    assert Counter(sample.task for sample in drawn) == dict.fromkeys(TASKS, 40)
    behavior = Counter(sample.id for sample in drawn if sample.task == "behavior")
    assert len(behavior) == 9
    assert set(behavior.values()) == {4, 5}


@given(shares=SHARES, position=st.integers(0, 120), seed=st.integers(0, 5))
@settings(max_examples=50)
def test_an_order_resumes_at_its_position(shares: dict[str, float], position: int, seed: int) -> None:
    pool = make_pool({"perception": 11, "prediction": 5, "planning": 3, "behavior": 2})
    whole = TaskBalancedOrder(pool, shares, seed)
    whole.take(position)
    assert whole.position == position
    resumed = TaskBalancedOrder(pool, shares, seed, position)
    assert resumed.take(30) == whole.take(30)


def test_an_order_has_no_end_and_shuffles_every_pass_anew() -> None:
    pool = make_pool({"planning": 6})
    drawn = [sample.id for sample in itertools.islice(TaskBalancedOrder(pool, {"planning": 1.0}, 0), 24)]
    passes = [tuple(drawn[start : start + 6]) for start in range(0, 24, 6)]
    assert all(sorted(one) == sorted(passes[0]) for one in passes)
    assert len(set(passes)) > 1


def test_the_seed_changes_the_order() -> None:
    pool = make_pool({"planning": 20})
    first, second = (TaskBalancedOrder(pool, {"planning": 1.0}, seed).take(20) for seed in (0, 1))
    assert first != second


def test_a_task_with_share_0_or_without_a_share_is_never_drawn() -> None:
    pool = make_pool({"perception": 3, "planning": 3, "behavior": 3})
    drawn = TaskBalancedOrder(pool, {"perception": 0.0, "planning": 2.0}, 0).take(20)
    assert {sample.task for sample in drawn} == {"planning"}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"behaviour": 1.0}, r"names behaviour, but no training sample has that task \(did you mean behavior\?\)$"),
        ({"any": 1.0, "plannign": 0.0}, r"names plannign, .*\(did you mean planning\?\)$"),
        ({"xyz": 1.0}, r"names xyz, .*\(tasks: planning\); set data.task_shares.xyz=0 to go on without it"),
        ({"planning": 0.0}, "gives no task of the data a share above 0 .*set data.task_shares.planning=1"),
        ({}, "gives no task of the data a share above 0"),
        ({"planning": -1.0}, "task_shares.planning must be 0 or a positive number"),
        ({"planning": float("nan")}, "task_shares.planning must be 0 or a positive number"),
        ({"planning": 1.0, "behavior": 1.0}, r"names behavior, .*set data.task_shares.behavior=0"),
    ],
)
def test_shares_that_cannot_be_drawn_are_refused_by_name(shares: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        TaskBalancedOrder(make_pool({"planning": 2}), shares, 0)


def test_data_of_one_task_of_its_own_needs_no_shares() -> None:
    samples = make_pool({"signs": 5})
    assert {sample.task for sample in TaskBalancedOrder(samples, DataSettings().task_shares, seed=0).take(9)} == {
        "signs"
    }


def test_any_stands_for_the_tasks_that_are_not_named() -> None:
    samples = make_pool({"planning": 5, "signs": 5, "lanes": 5})
    shares = {"any": 1.0, "planning": 0.0, "signs": 3.0}
    drawn = Counter(sample.task for sample in TaskBalancedOrder(samples, shares, seed=0).take(40))
    assert drawn == {"signs": 30, "lanes": 10}
    assert {sample.task for sample in with_a_share(samples, shares)} == {"signs", "lanes"}
