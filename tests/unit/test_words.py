from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.tokenize import tokenize

from data.reading.words import spaced, words
from data.sample import DrivingSample
from rewards.clip import prefix_ends
from rewards.gate import gate_reason
from rewards.route import Router
from rewards.settings import GateSettings, RewardSettings
from rewards.text import bleu, rouge_l

SLOW_DOWN = ["减速", "減速", "減速する", "スピードをおとす", "감속", "Замедлиться", "धीमा करें", "ช้าลง", "تباطأ", "האט",
             "Επιβράδυνση", "ralentir à l'arrêt", "Ｓｌｏｗ ｄｏｗｎ", "గతి తగ్గించండి", "ຊ້າລົງ",
             "ថយល្បឿន", "धीमाकरें", "slow down"]  # fmt: skip
GATE = GateSettings()


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("减速，因为红灯。", ["减", "速", "因", "为", "红", "灯"]),
        ("止まる データ", ["止", "ま", "る", "デ", "ー", "タ"]),
        ("정지 합니다.", ["정지", "합니다"]),
        ("Ещё раз: стой!", ["ещё", "раз", "стой"]),
        ("हाँ, सही है।", ["हाँ", "सही", "है"]),
        ("ช้าลง", ["ช้", "า", "ล", "ง"]),
        ("توقف الآن، الإشارة", ["توقف", "الآن", "الإشارة"]),
        ("选B。Ａ、直行3.5米", ["选", "b", "a", "直", "行", "3", "5", "米"]),
        ("L'arrêt à 3,5 m", ["l", "arrêt", "à", "3", "5", "m"]),
        ("don't CAM_FRONT", ["don", "t", "cam", "front"]),
    ],
)
def test_words_are_cut_by_script(text: str, cut: list[str]) -> None:
    assert words(text) == cut


def test_a_number_can_be_one_word() -> None:
    assert words("<c1,CAM_BACK,-3.5,82.2>", whole_numbers=True) == ["c1", "cam", "back", "-3.5", "82.2"]


@given(st.text(alphabet=string.printable))
def test_the_words_of_ascii_text_are_those_of_rouge_score(text: str) -> None:
    assert words(text) == tokenize(text, None)
    assert spaced(text) == text


@given(st.text())
def test_words_do_not_depend_on_how_unicode_writes_them(text: str) -> None:
    assert words(unicodedata.normalize("NFD", text)) == words(unicodedata.normalize("NFC", text)) == words(text)
    assert all(words(text)), "no word is empty"


@pytest.mark.parametrize("text", SLOW_DOWN)
async def test_the_truth_is_worth_100_in_every_script(text: str) -> None:
    assert rouge_l(text, text) == pytest.approx(100)
    assert bleu(text, text) == pytest.approx(100)
    assert rouge_l(text, "stop") == 0
    sample = DrivingSample("s", "s", "f", "planning", "open_ended", "What now?", text, {})
    assert (await Router(RewardSettings()).score(sample, text, "stop")).value == pytest.approx(100)


def test_a_closer_text_scores_higher_in_chinese() -> None:
    truth, near, far = "前方红灯，应减速停车。", "前方红灯，减速停车。", "左转"
    assert rouge_l(far, truth) < rouge_l(near, truth) < 100
    assert bleu(far, truth) < bleu(near, truth) < 100


@pytest.mark.parametrize("text", SLOW_DOWN)
def test_going_round_in_circles_is_repetitive_in_every_script_with_and_without_spaces(text: str) -> None:
    assert gate_reason(text, "stop", GATE) is None
    for between in ("", " ", "，", "、"):
        assert gate_reason(between.join([text] * 60), "stop", GATE) == "repeated_ngrams"


@pytest.mark.parametrize("mark", ["。", "！", "？", "।", "؟", ". ", "!\n", "\n"])
def test_the_same_sentence_is_found_behind_every_scripts_marks(mark: str) -> None:
    assert gate_reason(f"停{mark}" * 3, "stop", GATE) is None
    assert gate_reason(f"停{mark}" * 4, "stop", GATE) == "repeated_sentence"


def test_an_honest_answer_in_chinese_passes_the_gate() -> None:
    text = "前方有一辆白色轿车正在减速，左侧车道有一辆公交车，右侧有行人等待过马路，因此自车应当减速，准备停车让行。"
    assert gate_reason(text, "stop", GATE) is None


def test_spans_of_a_caption_end_where_its_scripts_words_and_sentences_do() -> None:
    caption = "减速，因为红灯。停车。"
    assert prefix_ends(caption, "sentence") == (8, 11)
    assert prefix_ends(caption, "clause") == (3, 8, 11)
    assert prefix_ends(caption, "word") == (1, 3, 4, 5, 6, 8, 9, 11)


@given(st.text(st.characters(max_codepoint=127)), st.booleans())
def test_ascii_text_has_the_words_that_any_text_has(text: str, whole_numbers: bool) -> None:
    """The quick way and the one for every script; a letter of another script takes the second."""
    assert words(text, whole_numbers=whole_numbers) == words(f"{text} é", whole_numbers=whole_numbers)[:-1]
