from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from data.errors import DataError
from data.filtering import (
    action_counts,
    balance_actions,
    draw_questions,
    ego_action,
    fault_of,
    hard_set,
    training_set,
    unfiltered_set,
    without_faults,
    without_frames,
)
from data.sample import DrivingSample, KeyObject
from tests.loaded import load_as

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "drivelm"
CHOICES = {"A": "Going ahead.", "B": "Stopped.", "C": "Turn left."}


def choice(id_: str, frame: str = "f", answer: str = "A", **choices: str) -> DrivingSample:
    options = choices or CHOICES
    return DrivingSample(id_, "s", frame, "perception", "multiple_choice", f"Status of {id_}?", answer, {}, options)


def behavior(id_: str, answer: str, frame: str = "") -> DrivingSample:
    return DrivingSample(id_, "s", frame or id_, "behavior", "open_ended", "Predict the behavior.", answer, {})


@pytest.mark.parametrize(
    ("sample", "fault"),
    [
        (choice("a"), None),
        (choice("a", A="Going ahead.", B="going  ahead"), "duplicate_options"),
        (choice("a", A="Back up.", B="Drive backward."), "duplicate_options"),
        (choice("a", A="The ego vehicle is steering to the left. The ego vehicle is not moving.", B="Stopped."),
         "exclusive_option"),
        (choice("a", A="Turn left. Turn right.", B="Stopped."), "exclusive_option"),
        (choice("a", A="The ego vehicle is going straight. The ego vehicle is not moving.", B="Stopped."), None),
        (choice("a", A="The ego vehicle is slightly steering to the left. The ego vehicle is driving slowly.", B="No."),
         None),
        (choice("a", answer="D"), "answer_not_an_option"),
        (replace(choice("a"), question=" "), "empty_text"),
        (replace(behavior("a", "x"), answer=""), "empty_text"),
        (replace(behavior("a", "x"), question="Where is <c1,CAM_FRONT,1700.0,450.0>?"), "coordinates_outside_image"),
        (replace(behavior("a", "x"), question="Where is <c1,CAM_FRONT,80.0,45.0>?",
                 objects=(KeyObject("<c2,CAM_FRONT,80.0,45.0>", "Vehicle", "Car."),)), "unknown_object"),
        (replace(behavior("a", "x"), question="Where is <c1,CAM_FRONT,80.0,45.0>?"), None),
        (replace(behavior("a", "x"), question="Where is <c1,CAM_FRONT,0.05,0.05>?", coordinate_unit="fractions",
                 objects=(KeyObject("<c1,CAM_FRONT,80.0,45.0>", "Vehicle", "Car."),)), None),
        (replace(behavior("a", "x"), question="Is <c1,CAM_FRONT,1.5,0.5> near?", coordinate_unit="fractions"),
         "coordinates_outside_image"),
        (replace(behavior("a", "(-3.5, 12.25)"), coordinate_unit="metres"), None),
    ],
)  # fmt: skip
def test_a_sample_is_dropped_for_the_fault_it_has(sample: DrivingSample, fault: str | None) -> None:
    assert fault_of(sample) == fault


def test_a_question_asked_twice_is_kept_once_and_not_at_all_when_its_answers_differ() -> None:
    twice = [replace(choice("a"), id=id_) for id_ in ("1", "2")]
    contrary = [replace(choice("b"), id=id_, answer=answer) for id_, answer in (("3", "A"), ("4", "B"))]
    elsewhere = replace(choice("a", frame="g"), id="5")
    found = without_faults([*twice, *contrary, elsewhere])
    assert [sample.id for sample in found.kept] == ["1", "5"]
    assert found.dropped == {"repeated_question": ["2"], "contradicting_answers": ["3", "4"]}


def test_frames_of_a_benchmark_are_left_out_by_name() -> None:
    found = without_frames([choice("a", "f"), choice("b", "g")], {"g"}, "benchmark_frame")
    assert ([sample.id for sample in found.kept], found.dropped) == (["a"], {"benchmark_frame": ["b"]})


def test_rare_actions_are_repeated_up_to_the_share_in_turn() -> None:
    samples = [
        *(behavior(f"fast{n}", "Fast.") for n in range(10)),
        behavior("left0", "Left."),
        behavior("left1", "left"),
    ]
    samples.append(choice("c"))
    balanced, repeated = balance_actions(samples, 0.5, seed=0)
    assert repeated == {"left": 3}
    assert balanced[:13] == tuple(samples)
    assert action_counts(balanced) == {"fast": 10, "left": 5}
    assert Counter(sample.id.partition("~")[0] for sample in balanced[13:]).most_common()[0][1] == 2
    assert len({sample.id for sample in balanced}) == len(balanced)
    assert balance_actions(samples, 0.5, seed=0)[0] == balanced


def test_a_share_of_nothing_repeats_nothing_and_a_full_share_makes_all_equal() -> None:
    samples = [behavior("a", "Fast."), behavior("b", "Fast."), behavior("c", "Slow.")]
    assert balance_actions(samples, 0.0, seed=0) == (tuple(samples), {})
    assert action_counts(balance_actions(samples, 1.0, seed=0)[0]) == {"fast": 2, "slow": 2}
    with pytest.raises(DataError, match="between 0 and 1"):
        balance_actions(samples, 1.5, seed=0)


def test_an_action_is_the_chosen_options_text_of_a_behavior_question() -> None:
    sample = replace(choice("a", answer="B"), task="behavior")
    assert (ego_action(sample), ego_action(choice("a"))) == ("stopped", None)


def test_the_training_set_counts_every_loss_by_its_reason() -> None:
    samples = [
        choice("faulty", "f1", answer="D"),
        choice("benchmark", "f2"),
        choice("unscored", "f3"),
        choice("easy", "f4"),
        choice("low", "f5"),
        choice("high", "f6"),
        choice("too-hard", "f7"),
    ]
    values = {"benchmark": 30.0, "easy": 45.5, "low": 25.0, "high": 45.0, "too-hard": 24.9, "faulty": 30.0}
    scores = {"align": {id_: [value] for id_, value in values.items()}}
    made = training_set(samples, scores, "align", {"f2"}, seed=0)
    assert [sample.id for sample in made.samples] == ["low", "high"]
    assert made.dropped == {
        "answer_not_an_option": ["faulty"],
        "benchmark_frame": ["benchmark"],
        "no_score": ["unscored"],
        "outside_band": ["easy", "too-hard"],
    }
    assert made.difficulty.frames == {"f4": 45.5, "f5": 25.0, "f6": 45.0, "f7": 24.9}
    assert made.summary == (
        "2 questions of 2 frames; 1 dropped for answer_not_an_option; 1 dropped for benchmark_frame; "
        "1 dropped for no_score; 2 dropped for outside_band"
    )


def test_frames_are_drawn_whole_and_the_same_for_one_seed() -> None:
    samples = [choice(f"{frame}-{number}", str(frame)) for frame in range(20) for number in range(3)]
    scores = {"align": {sample.id: [30.0] * 8 for sample in samples}}
    made = training_set(samples, scores, "align", set(), seed=3, frames=5)
    assert len(made.samples) == 15
    assert len({sample.frame_id for sample in made.samples}) == 5
    assert len(made.dropped["not_drawn"]) == 45
    assert made == training_set(samples, scores, "align", set(), seed=3, frames=5)
    assert made.samples != training_set(samples, scores, "align", set(), seed=4, frames=5).samples


def test_the_hard_set_takes_the_mean_of_the_models_and_leaves_training_frames_out() -> None:
    samples = [choice("both", "f1"), choice("trained", "f2"), choice("easy-for-one", "f3"), choice("hard", "f4")]
    values = {"both": (10, 20, 30), "trained": (20, 20, 20), "easy-for-one": (10, 10, 80), "hard": (31, 31, 31)}
    scores = {model: {id_: [of[n]] for id_, of in values.items()} for n, model in enumerate(("m1", "m2", "m3"))}
    made = hard_set(samples, scores, ["m1", "m2", "m3"], {"f2"})
    assert [sample.id for sample in made.samples] == ["both", "hard"]  # means 20 and 31; 33.3 is out
    assert made.dropped == {"training_frame": ["trained"], "outside_band": ["easy-for-one"]}


def test_the_hard_set_leaves_out_a_benchmarks_frames_too_and_names_which_is_which() -> None:
    samples = [choice("hard", "f1"), choice("bench", "f2"), choice("trained", "f3"), choice("both", "f4")]
    made = hard_set(samples, {"m": {s.id: [20.0] for s in samples}}, ["m"], {"f3", "f4"}, benchmark_frames={"f2", "f4"})
    assert [sample.id for sample in made.samples] == ["hard"]
    assert made.dropped == {"training_frame": ["trained", "both"], "benchmark_frame": ["bench"]}
    assert [sample.id for sample in made.candidates] == ["hard"]


def test_questions_are_drawn_without_losing_a_frame_and_repeats_come_after() -> None:
    samples = [replace(behavior(f"{f}-{n}", "Fast." if f else "Slow.", str(f)), question=str(n)) for f in range(6)
               for n in range(10)]  # fmt: skip
    scores = {"m": {sample.id: [30.0] * 8 for sample in samples}}
    made = training_set(samples, scores, "m", set(), seed=1, frames=4, questions=7, rarest=1.0)
    assert len(made.chosen) == 7
    assert len({sample.frame_id for sample in made.chosen}) == 4
    assert len(made.dropped["not_drawn"]) == 20
    assert len(made.dropped["question_not_drawn"]) == 33
    assert made.samples[:7] == made.chosen
    assert len(made.candidates) == 60
    assert draw_questions(samples, 3, seed=0) == draw_questions(samples[::-1], 3, seed=0) != frozenset()
    assert len(draw_questions(samples, 999, seed=0)) == 60


def test_the_unfiltered_set_keeps_faults_and_knows_no_difficulty() -> None:
    samples = [choice(f"{frame}-{n}", str(frame), answer="D") for frame in range(5) for n in range(4)]
    made = unfiltered_set(samples, {"0"}, seed=0, frames=3, questions=6)
    assert len(made.samples) == 6
    assert len({sample.frame_id for sample in made.samples} - {"0"}) == 3
    assert {reason: len(ids) for reason, ids in made.dropped.items()} == {
        "benchmark_frame": 4, "not_drawn": 4, "question_not_drawn": 6,
    }  # fmt: skip
    assert made.difficulty.frames == {}
    with pytest.raises(DataError, match="20 benchmark_frame"):
        unfiltered_set(samples, set("01234"), seed=0)


def test_nothing_left_is_an_error_that_counts_the_losses_and_tells_where_the_frames_lie() -> None:
    with pytest.raises(DataError, match=r"1 outside_band.* 90\.0 to 90\.0"):
        training_set([choice("a")], {"m": {"a": [90.0]}}, "m", set(), seed=0)
    with pytest.raises(DataError, match="1 no_score"):
        training_set([choice("a")], {"m": {"b": [90.0]}}, "m", set(), seed=0)


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the DriveLM sample is not at {REAL}")
def test_real_questions_are_mostly_kept_and_every_loss_has_a_reason() -> None:
    loaded = load_as("drivelm", REAL / "challenge" / "data" / "train_sample.json", REAL / "nuscenes")
    found = without_faults(loaded.samples)
    assert len(found.kept) + sum(map(len, found.dropped.values())) == len(loaded.samples)
    assert "exclusive_option" not in found.dropped
    assert len(found.kept) > 0.85 * len(loaded.samples)
    made = training_set(loaded.samples, {"m": {s.id: [30.0] * 8 for s in loaded.samples}}, "m", set(), seed=0)
    assert len({sample.frame_id for sample in made.samples}) == 9
