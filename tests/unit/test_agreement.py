from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample import DrivingSample
from rewards.agreement import agreement, pair_text
from rewards.text import bleu

TRUTH = "Action: Stop/slow down; Reason: Obstacle: person on the crossing ahead"


def sample(answer: str = TRUTH) -> DrivingSample:
    return DrivingSample("s", "s", "f", "behavior", "structured", "What now, and why?", answer, {})


@pytest.mark.parametrize(
    "text",
    [
        TRUTH,
        "action: stop/slow down. justification: Obstacle: person on the crossing ahead.",
        "<think>a person</think>Action: Stop/slow down\nReason: Obstacle: person on the crossing ahead",
        "Stop/slow down obstacle: person on the crossing ahead",
        '```json\n{"description": "A street.", "action": "Stop/slow down", '
        '"justification": "Obstacle: person on the crossing ahead"}\n```',
    ],
)
def test_the_same_pair_agrees_however_it_is_written(text: str) -> None:
    score = agreement(sample(), text)
    assert score.value == 100
    assert score.parts == {"bleu4": pytest.approx(100)}


@pytest.mark.parametrize(
    "text",
    [
        "Action: Move forward; Reason: Road is clear",
        "Action: Stop/slow down",
        "person",
        "{}",
        '{"description": "Stop/slow down. Obstacle: person on the crossing ahead"}',
        " ".join([TRUTH, *["The road is clear, the light is green, a car turns left."] * 5]),
    ],
)
def test_another_pair_half_a_pair_and_no_pair_do_not_agree(text: str) -> None:
    assert agreement(sample(), text).value == 0


def test_the_threshold_is_a_bleu_of_a_half_and_belongs_to_agreeing(monkeypatch: pytest.MonkeyPatch) -> None:
    for figure, value in ((49.999, 0), (50.0, 100), (50.001, 100)):
        monkeypatch.setattr("rewards.agreement.bleu", lambda text, truth, figure=figure: figure)
        assert agreement(sample(), "any").value == value


def test_bleu_is_the_houses_over_the_pair_without_its_labels() -> None:
    text = "Action: Stop/slow down; Reason: Obstacle: car on the crossing ahead"
    expected = bleu("stop/slow down obstacle: car on the crossing ahead", pair_text(TRUTH))
    assert agreement(sample(), text).parts == {"bleu4": expected}
    assert 50 < expected < 100


def test_a_pair_shorter_than_four_tokens_is_compared_on_what_it_has() -> None:
    assert agreement(sample("Stop."), "stop").value == 100
    assert agreement(sample("Stop."), "go").value == 0
    assert agreement(sample("Action: Stop; Reason: Traffic light"), "stop").value == 0


def test_the_papers_form_reads_surface_only_so_a_wrong_colour_can_agree() -> None:
    truth = sample("Action: Move forward; Reason: Traffic light is green")
    score = agreement(truth, "Action: Move forward; Reason: Traffic light is red")
    assert score.value == 100
    assert score.parts["bleu4"] == pytest.approx(76.0, abs=0.1)


def test_several_actions_of_a_list_are_read_in_order() -> None:
    text = json.dumps({"action": ["Move forward", "Turn left."], "justification": "Road is clear."})
    assert pair_text(text) == "move forward turn left road is clear"


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_two_texts_can_be_compared(text: str, truth: str) -> None:
    score = agreement(sample(truth), text)
    assert score.value in (0, 100)
    assert 0 <= score.parts["bleu4"] <= 100


@given(st.dictionaries(st.sampled_from(["action", "justification"]), st.none() | st.integers() | st.lists(st.none())))
def test_an_object_without_words_in_its_fields_agrees_with_nothing(fields: dict[str, object]) -> None:
    assert pair_text(json.dumps(fields)) == ""
    assert agreement(sample(), json.dumps(fields)).value == 0


@pytest.mark.parametrize("flood", [" ", "action:", "reason", ".", "action *", "*"])
def test_a_long_response_is_read_in_linear_time(flood: str) -> None:
    # Two million characters squared would outlast the limit of a test.
    text = "action: " + flood * (2_000_000 // len(flood))
    assert pair_text(text) == " ".join(text.split()).strip(" .*")


@pytest.mark.parametrize("text", ["**Action**: Stop\n**Reason**: Red light.", "Action：Stop；Reason：Red light。"])
def test_labels_in_bold_or_with_wide_colons_are_left_out_too(text: str) -> None:
    assert pair_text(text).strip("。") == "stop red light"
