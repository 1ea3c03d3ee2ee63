from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data.sample import DrivingSample
from rewards.clip import AlignmentScorer, ClipFailed, Span, alignment, caption_in, prefix_ends
from rewards.score import Score

SAMPLE = DrivingSample(
    "s_0", "s", "s_f", "planning", "open_ended", "What now?", "Stop.", {"CAM_FRONT": "/a.jpg", "CAM_BACK": "/b.jpg"}
)
SPANS: tuple[Span, ...] = ("sentence", "clause", "word")


class Fake:
    """A similarity by formula that notes what it was asked."""

    def __init__(self, cosine: Callable[[str], float]) -> None:
        self.cosine = cosine
        self.asked: list[tuple[list[str], list[str]]] = []

    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        self.asked.append((list(frames), list(texts)))
        return [self.cosine(text) for text in texts]


class Broken:
    async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
        raise ClipFailed("actor_lost", "gone")


def score(clip: Fake | Broken, text: str, scorer: AlignmentScorer | None = None) -> Score:
    return asyncio.run((scorer or AlignmentScorer()).score(clip, SAMPLE, text))


@pytest.mark.parametrize(("cosine", "worth"), [(0.25, 25.0), (-0.4, 0.0), (0.0, 0.0), (1.0, 100.0), (1.0000002, 100.0)])
def test_r1_is_a_hundred_times_the_cosine_and_never_negative(cosine: float, worth: float) -> None:
    assert alignment(cosine) == worth
    assert score(Fake(lambda _: cosine), "A red light.").value == worth


def test_the_caption_is_compared_with_all_frames_of_the_sample() -> None:
    clip = Fake(lambda _: 0.5)
    found = score(clip, "A red light.")
    assert clip.asked == [(["/a.jpg", "/b.jpg"], ["A red light."])]
    assert found.parts == {"cosine": 0.5}
    assert found.increments is None


def test_thinking_is_no_part_of_the_caption() -> None:
    clip = Fake(lambda _: 0.5)
    score(clip, "<think>red? green?</think><answer>A red light.</answer>")
    assert clip.asked[0][1] == ["A red light."]


@pytest.mark.parametrize(
    ("text", "reads", "caption"),
    [
        ('{"description": "A red light.", "action": "stop"}', "description", "A red light."),
        ('{"description": "A red light.", "justification": "It is red."}', "justification", "It is red."),
        ('{"description": "A red light."}', "justification", ""),
        ('{"description": ["A red light."]}', "description", ""),
        ('{"description": "  "}', "description", ""),
        ("A red light.", "description", "A red light."),
        ('{"description": "A red light."}', "answer", '{"description": "A red light."}'),
    ],
)
def test_the_caption_is_the_field_that_the_recipe_names(text: str, reads: str, caption: str) -> None:
    assert caption_in(text, reads) == caption  # type: ignore[arg-type]


def test_a_response_without_a_caption_is_worth_nothing_and_asks_nobody() -> None:
    clip = Fake(lambda _: 0.9)
    found = score(clip, '{"action": "stop"}', AlignmentScorer("description"))
    assert (found.value, found.failure, found.parts) == (0.0, None, {"no_caption": 1.0})
    assert clip.asked == []


def test_a_failure_is_raised_and_never_a_zero() -> None:
    with pytest.raises(ClipFailed, match="actor_lost: gone") as failed:
        score(Broken(), "A red light.")
    assert failed.value.reason == "actor_lost"


@pytest.mark.parametrize("cosine", [math.nan, math.inf, 1.5, -3.0])
def test_what_is_no_cosine_is_a_failure(cosine: float) -> None:
    with pytest.raises(ClipFailed, match="invalid_value"):
        score(Fake(lambda _: cosine), "A red light.")


def test_too_few_similarities_are_a_failure() -> None:
    class Short(Fake):
        async def similarities(self, frames: Sequence[str], texts: Sequence[str]) -> list[float]:
            return []

    with pytest.raises(ClipFailed, match="invalid_value"):
        score(Short(lambda _: 0.0), "A red light.")


def test_an_increment_is_what_its_span_added() -> None:
    by_prefix = {"": 0.1, "Red light. ": 0.3, "Red light. A car.": 0.25}
    clip = Fake(lambda text: by_prefix[text])
    found = score(clip, "Red light. A car.", AlignmentScorer(increments="sentence"))
    assert found.increments is not None
    assert [one.gain for one in found.increments] == pytest.approx([10.0, 20.0, -5.0])
    assert [one.end for one in found.increments] == [0, 11, 17]
    assert found.value == pytest.approx(25.0)
    assert found.parts == {"cosine": 0.25, "nothing_said": pytest.approx(10.0)}


@given(st.text(max_size=80), st.sampled_from(SPANS), st.integers(0, 1000))
def test_the_increments_add_up_to_the_score(text: str, by: Span, seed: int) -> None:
    clip = Fake(lambda prefix: math.sin(seed + 7.0 * len(prefix)))
    found = score(clip, text, AlignmentScorer(increments=by))
    assert found.increments is not None
    if found.parts.get("no_caption"):
        assert found.increments == ()
        return
    assert sum(one.gain for one in found.increments) == pytest.approx(found.value, abs=1e-9)
    assert len(found.increments) == 1 + len(prefix_ends(caption_in(text, "answer"), by))


def test_an_increment_ends_where_its_span_ends_in_the_whole_response() -> None:
    text = '<think>Hm.</think> <answer>{"description": "A car. Rain."}</answer>'
    found = score(Fake(lambda prefix: 0.1), text, AlignmentScorer("description", "sentence"))
    assert [text[: one.end][-6:] for one in found.increments or ()] == ["", " car. ", " Rain."]


def test_a_caption_that_is_escaped_in_the_response_is_credited_at_its_end() -> None:
    text = '<answer>{"description": "A \\"car\\". Rain."}</answer>'
    found = score(Fake(lambda prefix: 0.1), text, AlignmentScorer("description", "sentence"))
    assert [one.end for one in found.increments or ()] == [0, len(text), len(text)]


@given(st.text(max_size=80), st.sampled_from(SPANS))
def test_span_ends_rise_to_the_caption_s_end(caption: str, by: Span) -> None:
    ends = prefix_ends(caption, by)
    assert list(ends) == sorted(set(ends))
    assert ends[-1:] == ((len(caption),) if caption else ())
    assert all(end > 0 for end in ends)


@pytest.mark.parametrize(
    ("by", "spans"),
    [
        ("sentence", ["Go at 0.5 m/s, now. ", "Stop!"]),
        ("clause", ["Go at 0.5 m/s, ", "now. ", "Stop!"]),
        ("word", ["Go ", "at ", "0.5 ", "m/s, ", "now. ", "Stop!"]),
    ],
)
def test_spans_end_where_people_would_end_them(by: Span, spans: list[str]) -> None:
    caption = "Go at 0.5 m/s, now. Stop!"
    ends = (0, *prefix_ends(caption, by))
    assert [caption[a:b] for a, b in zip(ends, ends[1:], strict=False)] == spans
