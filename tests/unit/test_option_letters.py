from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data.reading.rules import extract_option, extract_yes_no, option_of
from data.sample import DrivingSample
from rewards.format import is_right

LETTERS = "ABCD"
CHOICES = {
    "A": "Going ahead.",
    "B": "Stopped.",
    "C": "Turn left",
    "D": "A car ahead",
    "F": "None of the options.",
}
IN_CHINESE = {"A": "直行", "B": "停车", "C": "左转", "D": "右转"}
NAMED = [
    ("A。", "A"), ("B。", "B"), ("A、直行", "A"), ("（A）", "A"), ("答案：A。", "A"), ("答案：A", "A"),
    ("选B", "B"), ("选 B", "B"), ("选项B", "B"), ("选择B", "B"), ("我选择C。", "C"), ("Ａ", "A"), ("Ｂ。", "B"),
    ("Ａ、直行", "A"), ("答案是B", "B"), ("答案为B。", "B"), ("正确答案是D。", "D"), ("应选A", "A"),
    ("故选A。", "A"), ("【B】", "B"), ("「B」", "B"), ("B：停车", "B"), ("A：直行", "A"), ("A．直行", "A"),
    ("A.直行", "A"), ("A 直行", "A"), ("A直行", "A"), ("a直行", "A"), ("选A，因为前方畅通。", "A"),
    ("A，因为", "A"), ("A是正确的", "A"), ("B是正确的", "B"), ("最终答案：C", "C"), ("不选A，选B", "B"),
    ("Ⓑ", "B"), ("𝐁", "B"), ("ⓐ", "A"), ("答えはBです。", "B"), ("正解はAです", "A"), ("Bです", "B"),
    ("選択肢C", "C"), ("B：停止", "B"), ("정답은 B입니다.", "B"), ("정답: A", "A"), ("B입니다", "B"),
    ("A번", "A"), ("B번입니다.", "B"), ("답은 C", "C"), ("Ответ: B", "B"), ("Правильный ответ — A", "A"),
    ("вариант C", "C"), ("A, потому что", "A"), ("الإجابة: B", "B"), ("الإجابة هي A", "A"), ("الخيار B", "B"),
    ("A، لأن", "A"), ("คำตอบคือ B", "B"), ("ข้อ A", "A"), ("ตอบ C", "C"), ("उत्तर: B", "B"), ("विकल्प A", "A"),
    ("सही उत्तर B है", "B"), ("Antwort: B", "B"), ("Réponse : C", "C"), ("La réponse est A", "A"),
    ("Respuesta: D", "D"), ("A Going ahead", "A"), ("B Going ahead", "B"), ("A Going ahead.", "A"),
    ("A The ego vehicle goes", "A"), ("A Keep going", "A"), ("B\nA car is ahead.", "B"),
    ("A\nA car is ahead.", "A"), ("B\nC is wrong because it is red.", "B"), ("Option B", "B"),
    ("option b", "B"), ("answer is (C)", "C"), ("b)", "B"), ("b) stop", "B"), ("[B]", "B"), ("{B}", "B"),
    ("<b>B</b>", "B"), ("<b>A</b>", "A"), ("__B__", "B"), ("_A_", "A"), ("**A**", "A"), ("***C***", "C"),
    ("`D`", "D"), ("\\boxed{\\text{A}}", "A"), ("$\\boxed{\\mathrm{B}}$", "B"), ("\\text{A}", "A"),
    ("- B", "B"), ("- A", "A"), ("1. B", "B"), ("• C", "C"), ("- b) stop", "B"), ("Answer - B", "B"),
    ("Answer → C", "C"), ("Answer\nB", "B"), ("Ans: B", "B"), ("I'd go with B.", "B"),
    ("I would choose A.", "A"), ("I choose option C", "C"), ("My choice is D", "D"), ("It's B.", "B"),
    ("It is A.", "A"), ("B!", "B"), ("A!", "A"), ("Not A but B", "B"), ("B, not A", "B"),
    ("B rather than A", "B"), ("A instead of B", "A"), ("the answer is A, not B", "A"),
    ("A (Going ahead)", "A"), ("A - going ahead", "A"), ("A", "A"), ("a", "A"), ("Vitamin C", "C"),
    ("Final answer: B", "B"), ("**Final Answer: A**", "A"), ("A\nB\nC\nD\nFinal answer: B", "B"),
    ("A\nB\nC\nD\nThe answer is C.", "C"), ("The answer is: A", "A"), ("the answer is a", "A"),
    ("The answer is option A.", "A"), ("The answer: B. Stop", "B"), ("Correct answer: C", "C"),
    ("Correct Answer - C", "C"), ("I think the correct answer is D.", "D"),
    ("Based on the image, the answer is B.", "B"), ("My answer is (b).", "B"), ("Answer is b", "B"),
    ("answer: a.", "A"), ("The best choice would be C.", "C"), ("The correct option would be B", "B"),
    ("Selected option: D", "D"), ("I would select option B because it is safe.", "B"), ("Choose B", "B"),
    ("Pick C.", "C"), ("B is the correct answer.", "B"), ("A is the correct answer.", "A"),
    ("A) is correct", "A"), ("(A) is the answer", "A"), ("Option A is correct.", "A"), ("option (c)", "C"),
    ("Option: D", "D"), ("OPTION B", "B"), ("Choice A", "A"), ("[A] Going", "A"), ("<A>", "A"),
    ("**A.** Going ahead", "A"), ("**A) Going ahead**", "A"), ("A: Going ahead", "A"), ("a: going ahead", "A"),
    ("A – going", "A"), ("A. A car is ahead", "A"), ("B. A or B?", "B"), ("A car is ahead, so B.", "B"),
    ("A car is ahead. The answer is B.", "B"), ("A.", "A"), ("A,", "A"), ("A)", "A"), ("(A", "A"), ("A]", "A"),
    ("\"A\"", "A"), ("`A`", "A"), ("$A$", "A"), ("$\\text{A}$", "A"), ("\\boxed{\\textbf{(A)}}", "A"),
    ("\\(\\boxed{B}\\)", "B"), ("B (not A)", "B"), ("B, because A is wrong", "B"),
    ("A is incorrect, so B.", "B"), ("Option A is wrong. Option B is right.", "B"),
    ("A is not correct; B is.", "B"), ("1) B", "B"), ("Step 1: look. Step 2: answer. B", "B"),
    ("Answer (A)", "A"), ("Ans. B", "B"), ("Ans: (C)", "C"), ("答案 B", "B"), ("答案是：（B）", "B"),
    ("答案：Ｂ", "B"), ("答案：B、停车", "B"), ("正确选项是B", "B"), ("正确选项：C", "C"),
    ("正确的选项是D。", "D"), ("我选A", "A"), ("我选择A选项", "A"), ("A选项", "A"), ("选项A是正确的", "A"),
    ("选项：A", "A"), ("选A。", "A"), ("本题选B", "B"), ("所以选B。", "B"), ("因此答案为C。", "C"),
    ("最终答案是D", "D"), ("应该选A。", "A"), ("排除A，选B", "B"), ("A错误，B正确", "B"), ("Ａ。", "A"),
    ("ａ", "A"), ("（Ａ）", "A"), ("［Ａ］", "A"), ("Ａ：直行", "A"), ("A．", "A"), ("A｡", "A"),
    ("A,直行", "A"), ("A;直行", "A"), ("A-直行", "A"), ("A——直行", "A"), ("「A」です", "A"), ("Aです。", "A"),
    ("Aを選びます", "A"), ("選択肢Aが正しい", "A"), ("答え：A", "A"), ("正解はA。", "A"), ("A번입니다", "A"),
    ("A가 정답입니다", "A"), ("정답은 A 입니다", "A"), ("Ответ — B.", "B"), ("Выбираю B", "B"),
    ("B, потому что горит красный", "B"), ("الجواب B", "B"), ("الإجابة الصحيحة هي B", "B"),
    ("ข้อ B ถูกต้อง", "B"), ("คำตอบ: C", "C"), ("उत्तर A है", "A"), ("विकल्प B सही है", "B"),
]  # fmt: skip
NOT_NAMED = [
    "不选A", "不是A", "A和B", "A或B", "A、B", "A，B", "选A或B", "AB", "A柱挡住了视线", "没有正确选项", "直行",
    "答案是直行", "A、直行 B、停车 C、左转", "A、直行\nB、停车", "A。B。", "既不是A也不是B", "A 또는 B",
    "A или B", "A أو B", "A या B", "A car ahead", "A car ahead.", "A Toyota is ahead", "A Stop sign",
    "A\nB\nC\nD", "A\nB", "A B C D", "A B", "B A", "A,B,C,D", "A B C D E", "A; B", "A. B. C. D.", "(A) (B)",
    "(A)\n(B)\n(C)", "a\nb\nc\nd", "A)\nB)\nC)", "ABCD", "AC", "A+B", "A & C", "A|B", "A - B", "A to D",
    "**A** car", "Not B.", "not option B", "It is not B.", "The answer is not B.", "Neither A nor B",
    "I do not choose A", "None of the options.", "a) slow down\nb) stop", "A) slow\nB) stop",
    "The answer is A\nB", "A-pillar", "A's", "an", "a car", "A big red car is in front of us.",
    "A Building is ahead", "A Crossing", "A pedestrian is crossing", "Both A and B", "Either A or B.",
    "A and B are both correct.", "All of the above", "A, B and C", "A, C", "A/C", "A-B", "ABD.", "B,C", "A;C",
    "A + C", "A & B", "B or maybe C", "Not A.", "Definitely not C.", "It can't be A.", "A is wrong.",
    "The answer isn't B", "选AB", "选A、B", "A和C", "A或者C", "不是B", "B不对", "①", "甲", "AまたはB", "A와 B",
    "А", "Вариант А", "(ب)",
]  # fmt: skip
NAMED_BY_TEXT = [
    ("A Going ahead", "A"), ("A going ahead", "A"), ("B Stopped", "B"), ("None of the options.", "F"),
    ("none of the options", "F"), ("F) None of the options.", "F"), ("F None of the options.", "F"),
    ("A car ahead", "D"), ("A car ahead.", "D"), ("D A car ahead", "D"), ("Turn left", "C"),
    ("The answer is A Going ahead.", "A"), ("Answer: A going ahead because it is free", "A"),
]  # fmt: skip
NOT_NAMED_BY_TEXT = [
    "A going ahead of us", "a going ahead", "A car", "A Going ahead\nB Stopped\nC Turn left", "A Stopped",
]  # fmt: skip
NAMED_IN_CHINESE = [
    ("直行", "A"), ("停车。", "B"), ("「左转」", "C"), ("A、直行", "A"), ("A直行", "A"),
]  # fmt: skip
NOT_NAMED_IN_CHINESE = [
    "选择停车", "A、直行\nB、停车\nC、左转\nD、右转", "A 直行\nB 停车",
]  # fmt: skip
SEPARATORS = [
    ", ",
    "\n",
    " ",
    "; ",
    " and ",
    " or ",
    "/",
    "、",
    "和",
    "或",
    ".\n",
    ")\n",
    " or option ",
    "，",
    " 또는 ",
    " или ",
]


@pytest.mark.parametrize(("text", "letter"), NAMED)
def test_an_option_is_read_in_every_spelling_and_language(text: str, letter: str) -> None:
    assert extract_option(text, LETTERS) == letter


@pytest.mark.parametrize("text", NOT_NAMED)
def test_lists_denials_articles_and_words_name_no_option(text: str) -> None:
    assert extract_option(text, LETTERS) is None


@pytest.mark.parametrize(("text", "letter"), NAMED_BY_TEXT)
def test_an_option_is_known_by_its_text_with_or_without_its_letter(text: str, letter: str) -> None:
    assert option_of(text, CHOICES) == letter


@pytest.mark.parametrize("text", NOT_NAMED_BY_TEXT)
def test_an_article_before_half_a_text_or_anothers_text_is_no_option(text: str) -> None:
    assert option_of(text, CHOICES) is None


@pytest.mark.parametrize(("text", "letter"), NAMED_IN_CHINESE)
def test_an_option_in_chinese_is_known_by_its_text(text: str, letter: str) -> None:
    assert option_of(text, IN_CHINESE) == letter
    assert is_right(DrivingSample("s", "s", "f", "behavior", "multiple_choice", "?", letter, {}, IN_CHINESE), text)


@pytest.mark.parametrize("text", NOT_NAMED_IN_CHINESE)
def test_a_list_in_chinese_names_no_option(text: str) -> None:
    assert option_of(text, IN_CHINESE) is None


def test_words_that_fit_two_options_name_none() -> None:
    assert option_of("A car", {"A": "car", "B": "truck", "C": "A car"}) is None


@given(st.lists(st.sampled_from(LETTERS), min_size=2, max_size=5, unique=True), st.sampled_from(SEPARATORS))
@example(letters=["A", "B"], separator=" ")
def test_several_letters_in_whatever_list_choose_nothing(letters: list[str], separator: str) -> None:
    for text in (separator.join(letters), separator.join(letters) + ".", f"The answer is {separator.join(letters)}"):
        assert extract_option(text, LETTERS) is None


@given(
    st.sampled_from(LETTERS),
    st.sampled_from(
        [
            "{}。",
            "{}、直行",
            "（{}）",
            "答案：{}。",
            "选{}",
            "【{}】",
            "{}：直行",
            "정답은 {}입니다.",
            "Ответ: {}",
            "{}",
        ]
    ),
    st.booleans(),
)
def test_a_letter_reads_the_same_in_full_width(letter: str, form: str, full: bool) -> None:
    text = form.format(chr(ord(letter) + 0xFEE0) if full else letter)
    assert extract_option(text, LETTERS) == letter
    assert extract_option(unicodedata.normalize("NFD", text), LETTERS) == letter


@given(st.sampled_from("ABC"), st.sampled_from(["", ".", " because it is free", "\nThe lane is free."]))
def test_a_letter_before_its_own_text_is_that_option(letter: str, behind: str) -> None:
    text = f"{letter} {CHOICES[letter].rstrip('.')}{behind}"
    assert option_of(text, CHOICES) == option_of(text.casefold().capitalize(), CHOICES) == letter


@given(st.text(alphabet=st.sampled_from("ABab答案选是或、。：（） \n.,不"), max_size=30))
def test_reading_an_option_takes_any_mess_of_scripts(text: str) -> None:
    assert extract_option(text, LETTERS) in (None, *LETTERS)
    assert option_of(text, IN_CHINESE) in (None, *LETTERS)


@pytest.mark.parametrize("piece", ["A ", "A B ", "x A ", "* ", "_\n", "answer is A ", "(", "A. ", "not ", "不A"])
def test_a_long_mess_is_read_as_a_short_one_is(piece: str) -> None:
    # With a pattern that tries every split of the text, the long one would take minutes.
    assert extract_option(piece * 4_000 + "zz", LETTERS) == extract_option(piece * 400 + "zz", LETTERS)
    assert extract_yes_no(piece * 4_000) is extract_yes_no(piece * 400)
