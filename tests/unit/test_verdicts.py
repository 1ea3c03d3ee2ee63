from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import data.reading.option_words
import data.reading.verdict_words
from data.reading.rules import extract_yes_no
from data.reading.words import folded
from data.sample import DrivingSample
from rewards.format import is_right, valid_format
from rewards.hybrid import hybrid
from rewards.route import Router
from rewards.settings import RewardSettings

TRUE = [
    "True", "true.", "**True**", "True, because the light is red", "True because it is red.",
    "True - the light is red", "True (the light is green)", "True: red", "True\nBecause",
    "The statement is true.", "It is not false.", "It is not false", "That's true.", "That’s right.",
    "That is correct.", "Correct.", "correct", "The answer is true.", "The answer is True", "answer = true",
    "The correct answer is: True.", "The statement is definitely true.", "True or False? True.",
    "Yes or no: yes.", "I don't think the statement is false.", "It is true that the light is red.",
    "Yes, the car is in the correct lane.", "Yes, turning left is wrong.", "Yes, indeed.", "Yeah.", "T", "Y",
    "'True'", "\"True\"", "(True)", "[True]", "\\boxed{True}", "Ｔｒｕｅ", "Ｙｅｓ．", "Is the light red? Yes.",
    "The statement seems true.", "This statement is accurate.", "Therefore, the statement is True.",
    "It is not untrue.", "Not wrong.", "The statement is true and correct.", "True. It is not false.",
    "Yes, it's true.", "Absolutely true.", "Of course it is true.",
    "The given statement that there are no cars is true.", "The claim that the light is not red is true.",
    "True\n", "The statement is true and no cars are there.", "Yes, there are cars and no people.",
    "Yes, it is.", "True.\n\nExplanation: The light is not green.", "Answer: **True**.",
    "The final answer is: true", "### True", "The statement “the light is red” is true.",
    "This statement is True, since the ego vehicle is stopped.", "I think it's true.", "My answer is true.",
    "Based on the images, this is true.", "It's True", "It is indeed true.", "This is a true statement.",
    "It is a correct statement", "Verdict: true", "Judgement: true", "=> True", "true;", "True,", "Not false.",
    "not incorrect", "It is true", "Yes and true.", "Yes, that's correct.", "It isn't false.",
    "A true/false question: true", "Yes — the light is red.", "Yes!", "yes...", "...yes", "Well, yes.",
    "yes sir", "The answer would be yes", "Answer is: Yes.", "Q: Is it red?\nA: Yes", "Response: yes",
    "Therefore: Yes", "Final Answer: True", "\\text{True}", "{\"answer\": \"true\"}", "True, I guess.",
    "Probably true.", "The statement isn't false, it's true.", "True, not false.", "True rather than false.",
    "○",
]  # fmt: skip
FALSE = [
    "False", "FALSE!", "The statement is false.",
    "The claim that we can stop is false because the light is green.",
    "Going straight is false because the light is green.", "That is not true.", "Not true.", "not true",
    "This isn't true.", "This isn’t true.", "It's false.", "It's not true", "Incorrect.", "incorrect",
    "Untrue.", "The statement is untrue.", "Wrong.", "That is wrong.", "Not correct.",
    "The statement is not correct.", "The statement is incorrect because the car is parked.", "Answer: False",
    "Answer: not true", "The correct answer is false.", "The statement is completely false.",
    "It is not really true.", "It cannot be true.", "It can't be true.", "I believe this to be false.",
    "True or false: false", "I don't think it is true.", "I do not think that is true.",
    "It is not the case that the statement is true.", "It is not true that the light is red.",
    "It's false that the car stops.", "No, while it is true that the light is green, a pedestrian is crossing.",
    "No, the car is not in the correct lane.", "No, the vehicle should wait for the right time.",
    "No, it is not correct to stop.", "No, it is correct to keep going.", "No, turning left is wrong.", "Nope.",
    "F.", "N", "The answer is 'False'.", "$\\boxed{\\text{False}}$", "Is it true? No.",
    "The statement appears to be false.", "This is inaccurate.", "So it is false, since the light is green.",
    "In conclusion: false.", "False. The statement is not true.",
    "The light is not green, so the statement is false.", "No, it's false.", "No, that is not true.",
    "No, not true.", "Definitely not true.", "Not at all true.", "No, it isn't.", "**Answer:** False",
    "The correct answer is **False**.", "I believe the statement is false.", "I would say false.",
    "Based on the image, the statement is false.", "According to the picture, it's not true.",
    "that's not correct", "That's incorrect.", "That is a false statement.", "This is not a true statement.",
    "Statement: false", "Result: False", "→ False", "No and false.", "No, that's incorrect.",
    "No, that's wrong; the light is red.", "It wasn't true.", "Isn't true", "ain't true", "No – no cars.",
    "Hmm, no.", "The answer is no.", "ANSWER: NO", "Thus, no.", "So the answer is: false.",
    "{\"answer\": false}", "Likely false.", "The statement is almost certainly false.",
    "The statement is not true, it is false.", "False, not true.", "×",
]  # fmt: skip
NEITHER = [
    "The statement is not entirely true.", "It is partly true.", "Mostly true.", "Half true.",
    "It may be true.", "It would be true if the light were red.", "True or false", "True/False",
    "true or False?", "neither true nor false", "both true and false", "It is both true and false.",
    "True and false.", "True. False.", "If the statement is true, we stop.",
    "I am not sure whether it is true.", "I can't tell whether the statement is true or false.",
    "The car is on the right.", "Right.", "Turn right, because it is clear.",
    "The correct lane is the left one.", "Correct lane keeping matters", "False alarm", "Yes. That is false.",
    "No, that is true.", "No idea.", "The truth is unknown", "trueness", "it's a true story",
    "The statement is a lie.", "true,false", "Nothing is true.", "none is true", "Only the second is true.",
    "There is no truth", "the opposite is true", "The reverse is true.", "Indeed.", "Certainly.", "Sure.",
    "Of course.", "Absolutely.", "Not really.", "Never.", "Always", "Unable to determine.", "It depends.",
    "The statement does not hold.", "The statement is neither true nor false.", "The claim is not supported",
    "Is the statement true?", "true?", "Is it false? It is.", "TRUE\nFALSE", "True\nFalse",
    "Yes, the statement is false.", "Oh yes", "The sign says no parking.", "There are no cars.",
    "The statement is true or false", "Either true or false.", "I'm not sure, true?", "Possibly true",
    "Unlikely to be true.", "It is doubtful that it is true.", "I doubt it is true.",
    "It is not clear that the statement is true.", "It is unlikely that the statement is true.",
    "It's more false than true.", "O",
]  # fmt: skip
TRUE_ELSEWHERE = [
    "是", "是。", "是的", "是的，前方有车。", "对", "对。", "正确", "正确。", "答案：正确", "答案是正确",
    "答案是：是", "答案是对的。", "该说法是正确的。", "该说法正确", "这句话是对的。", "这是真的。",
    "这种说法没错", "没错", "真", "为真", "陈述为真。", "正确，因为红灯亮着。", "正确，因为绿灯",
    "对的，绿灯。", "我认为正确。", "不是错误的", "是否正确：正确", "這個說法是正確的。", "對", "有。",
    "有，前方有行人。", "会。", "可以。", "【正确】", "「是」", "正确的", "是 的",
    "是，该标志表示禁止左转，左转是错误的。", "はい", "はい、そうです。", "正しい", "正しいです。",
    "その記述は正しいです。", "答えは「はい」です。", "真です", "예", "네, 맞습니다.", "참", "참입니다.",
    "이 진술은 참입니다.", "정답: 예", "맞습니다", "네", "Да", "Да, верно.", "Верно.", "Утверждение верно.",
    "Это правда.", "Ответ: да", "правильно", "Утверждение истинно, так как горит красный.", "نعم",
    "نعم، هناك سيارة.", "صحيح", "العبارة صحيحة.", "هذا صحيح.", "الإجابة: نعم", "صَحيح", "ใช่", "ใช่ครับ",
    "จริง", "ถูกต้อง", "ข้อความนี้เป็นจริง", "คำตอบคือ ใช่", "हाँ", "हाँ, यह सही है।", "सही", "कथन सही है।",
    "सत्य", "उत्तर: हाँ", "Ja", "Ja, das stimmt.", "Oui", "Vrai", "Sí, hay coches.", "Verdadero", "Wahr", "Sì",
    "True ✓", "✓", "✅", "Yes ✅", "正确的。", "正确！", "对！", "对的", "对呀", "是的。前方有红灯。", "答：是",
    "答：对。", "判断：正确", "结论：正确。", "【答案】正确", "答案选正确", "该陈述正确。", "陈述是对的",
    "是对的。", "无误", "属实", "真的", "TRUE（正确）", "True，因为前方红灯。", "答案：True", "该陈述为True。",
    "是（Yes）", "Yes，前方有车。", "はい。", "正しい。", "正しいと思います。", "それは正しいです",
    "そうです。", "네.", "맞아요.", "참이다.", "그 진술은 사실입니다.", "예, 신호등이 빨간색입니다.", "답: 참",
    "Да.", "Да, горит красный.", "Утверждение верное.", "Это верно.", "Правда.",
    "Верно, так как горит красный.", "نعم.", "صح", "ถูก", "हाँ।", "यह कथन सत्य है।", "सही है।",
]  # fmt: skip
FALSE_ELSEWHERE = [
    "否", "否。", "不是", "不是。", "不", "错", "错。", "错误", "错误。", "答案：错误", "答案是错误的。",
    "该说法是错误的。", "该说法错误", "这句话是错的。", "这不是真的。", "不正确", "不对", "不对。", "假",
    "为假", "陈述为假，因为绿灯亮着。", "错误，因为绿灯亮着。", "我认为错误。", "该说法不正确，因为绿灯亮着。",
    "并不正确。", "没有。", "没有，前方没有车。", "不会。", "不可以。", "錯誤", "這是錯誤的", "【错误】",
    "「否」", "并非正确", "这种说法不成立。", "是否正确？错误。", "いいえ", "いいえ、違います。", "正しくない",
    "正しくありません。", "その記述は間違いです。", "間違っています", "誤り", "偽", "真ではありません",
    "아니요", "아니오.", "아니요, 없습니다.", "거짓", "거짓입니다.", "이 진술은 거짓입니다.", "참이 아닙니다.",
    "틀렸습니다", "맞지 않습니다", "정답: 아니요", "Нет", "Нет, машин нет.", "Неверно.", "Не верно.",
    "Утверждение неверно.", "Утверждение ложно.", "Это неправда.", "Ложь", "Ответ: нет", "неправильно",
    "Это утверждение не является верным.", "لا", "لا، لا توجد سيارات.", "خطأ", "العبارة خاطئة.", "غير صحيح",
    "هذا غير صحيح.", "ليس صحيحا", "الإجابة: لا", "ไม่ใช่", "ไม่", "ไม่จริง", "เท็จ", "ผิด",
    "ข้อความนี้เป็นเท็จ", "ไม่ถูกต้อง", "नहीं", "नहीं, कोई कार नहीं है।", "गलत", "कथन गलत है।",
    "यह सही नहीं है।", "असत्य", "उत्तर: नहीं", "Nein", "Non", "Faux", "Falso", "Falsch", "Nicht wahr.", "Não",
    "False ❌", "✗", "❌", "不是的，前方没有红灯。", "不，前方没有红灯。", "答案：错", "判断结果：错误",
    "该陈述不成立", "上述说法是错误的", "以上说法都不对。", "这个判断是错的，因为...", "是错的。", "说法有误。",
    "有误", "不属实", "假的", "False（错误）", "False。", "答案是False，因为绿灯。", "no。", "いいえ。",
    "正しくないです。", "誤りです。", "間違っています。", "偽です。", "違います。", "아니요.", "틀려요.",
    "거짓이다.", "그 진술은 사실이 아닙니다.", "아니요, 신호등은 초록색입니다.", "Нет.", "Нет, не горит.",
    "Утверждение неверное.", "Это неверно.", "Неправда.", "لا.", "خطأ.", "هذا خطأ.", "ไม่ใช่ครับ", "ไม่ครับ",
    "หัวข้อนี้เป็นเท็จ", "नहीं।", "यह कथन असत्य है।", "गलत है।",
]  # fmt: skip
NEITHER_ELSEWHERE = [
    "是或否", "是/否", "对错", "是不是", "正确还是错误", "是。否。", "对。错。", "不确定", "也许", "绝对安全",
    "对于这辆车，应减速", "前方有车", "车道是直的", "正确的车道是左边", "是因为红灯", "예 또는 아니요",
    "да или нет", "машин нет", "사실, 차가 있습니다", "写真です", "はい、いいえ", "لا أعرف", "直行", "红灯",
    "没有车。", "前方没有车", "可以直行。", "正确/错误", "对或错", "既对又错", "不一定", "不能确定是否正确",
    "无法判断", "部分正确", "基本正确", "不完全正确", "不全对", "Это не так.",
]  # fmt: skip
PIECES = [*"真假对错是否不的。，因为 ", "true", "false", " not ", " is ", " or ", "yes", "нет ", "참", "아니"]


@pytest.mark.parametrize("text", [*TRUE, *TRUE_ELSEWHERE])
def test_true_is_read_in_every_phrase_and_language(text: str) -> None:
    assert extract_yes_no(text) is True


@pytest.mark.parametrize("text", [*FALSE, *FALSE_ELSEWHERE])
def test_false_is_read_in_every_phrase_and_language(text: str) -> None:
    assert extract_yes_no(text) is False


@pytest.mark.parametrize("text", [*NEITHER, *NEITHER_ELSEWHERE])
def test_what_says_neither_or_both_is_no_verdict(text: str) -> None:
    assert extract_yes_no(text) is None


@given(st.sampled_from([text for text in (*TRUE, *FALSE, *NEITHER) if "\\" not in text]))
def test_case_space_and_bold_change_no_verdict(text: str) -> None:
    for dressed in (text.upper(), text.lower(), f"  {text}\n", f"**{text}**"):
        assert extract_yes_no(dressed) is extract_yes_no(text)


@given(st.sampled_from([*TRUE_ELSEWHERE, *FALSE_ELSEWHERE]))
def test_how_unicode_writes_a_text_changes_no_verdict(text: str) -> None:
    for written in (unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text)):
        assert extract_yes_no(written) is extract_yes_no(text)


@pytest.mark.parametrize("form", ["The statement is {}.", "Answer: {}", "{}.", "{}, as it is green.", "Thus it's {}"])
@pytest.mark.parametrize(("word", "verdict"), [("true", True), ("false", False), ("correct", True), ("wrong", False)])
def test_a_verdict_and_its_denial_are_opposites(form: str, word: str, verdict: bool) -> None:
    assert extract_yes_no(form.format(word)) is verdict
    assert extract_yes_no(form.format(f"not {word}")) is not verdict


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_reading_a_verdict_takes_any_mess_of_words(text: str) -> None:
    assert extract_yes_no(text) in (True, False, None)


@pytest.mark.parametrize("module", [data.reading.verdict_words, data.reading.option_words])
def test_the_words_are_written_as_texts_are_read(module: object) -> None:
    text = Path(str(getattr(module, "__file__", ""))).read_text(encoding="utf-8")
    assert folded(text) == text


@pytest.mark.parametrize(
    ("truth", "right", "wrong"),
    [("True", "It is true.", "Not true."), ("False", "no", "True"), ("正确", "是", "错误"), ("No.", "False", "Yes")],
)
async def test_router_hybrid_and_format_read_the_same_verdict(truth: str, right: str, wrong: str) -> None:
    sample = DrivingSample("s", "s", "f", "behavior", "yes_no", "Is it?", truth, {})
    router = Router(RewardSettings())
    router.check_routes([sample])
    for text, value in ((right, 100.0), (wrong, 0.0)):
        assert (await router.score(sample, text, "stop")).value == value
        assert hybrid(sample, text).value == value
        assert is_right(sample, text) is bool(value)
        assert valid_format(sample, text)
