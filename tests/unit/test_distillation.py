"""Distilling reasoning: what a teacher is asked, which replies are refused and why, asking again, and going on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from commands.distil import add_arguments, summary
from data.errors import DataError
from data.reasoning import teacher
from data.reasoning.distillation import Refusal, distillation_request, read_reply, reasoning_prompt, sentences
from data.reasoning.teacher import TeacherSettings, ask, complaint, distil, first_messages
from data.sample import CAMERAS, TASKS, DrivingSample
from prepare_data import main
from tests.loaded import load_as

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "drivelm"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the DriveLM sample is not at {REAL}")
GOOD = (
    "<think>A car waits at <c1,CAM_FRONT,880.5,442.5>. Braking beats 5.5 m of progress.</think><answer>Stop.</answer>"
)
SETTINGS = TeacherSettings("http://teacher/v1", "big", concurrent=2, image_size=None)
SAMPLE = DrivingSample("a", "s", "f", "planning", "open_ended", "What now?", "Stop.", {})
CHOICE = replace(SAMPLE, kind="multiple_choice", answer="B", choices={"A": "Go.", "B": "Stop."}, task="behavior")


def reply(thought: str, answer: str = "Stop.") -> str:
    return f"<think>{thought}</think><answer>{answer}</answer>"


def reason_of(found: str | Refusal) -> str:
    assert isinstance(found, Refusal)
    return found.reason


# --- requests ---------------------------------------------------------------------------------------------------------


def test_each_task_has_its_budget_of_sentences() -> None:
    budgets = {task: (reasoning_prompt(task).fewest, reasoning_prompt(task).most) for task in TASKS}
    assert budgets == {"perception": (1, 1), "prediction": (2, 2), "planning": (2, 3), "behavior": (2, 2)}
    assert "Write two or three sentences of reasoning" in reasoning_prompt("planning").text
    assert "Write one sentence of reasoning" in reasoning_prompt("perception").text


def test_the_prompts_differ_and_are_named_with_their_version() -> None:
    labels = {reasoning_prompt(task).label for task in TASKS}
    assert {label.partition("@")[0] for label in labels} == set(TASKS)
    assert len({reasoning_prompt(task).text for task in TASKS}) == 4


def test_a_request_holds_question_answer_and_the_meaning_of_a_letter() -> None:
    assert distillation_request(SAMPLE).user == "Question: What now?\nAnswer: Stop."
    asked = distillation_request(CHOICE).user
    assert "Options:\nA. Go.\nB. Stop." in asked
    assert asked.endswith("Answer: B\nThe letter stands for: Stop.")


def test_images_are_sent_each_behind_the_name_of_its_camera(tmp_path: Path) -> None:
    images = {camera: str(tmp_path / f"{camera}.png") for camera in CAMERAS}
    for path in images.values():
        Image.new("RGB", (160, 90)).save(path)
    asked = replace(SAMPLE, images=images | {"LIDAR_TOP": "/sweep.pcd.bin"})
    _, user = first_messages(distillation_request(asked), (32, 32))
    kinds = [part["type"] for part in user["content"]]
    assert kinds == ["text", "image_url"] * 6 + ["text"]
    assert [part["text"] for part in user["content"][:-1:2]] == [f"{camera}:" for camera in CAMERAS]
    assert distillation_request(asked, with_images=False).images == ()


# --- replies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", [GOOD, f"\n{GOOD}  ", f"```xml\n{GOOD}\n```", GOOD.replace("</think>", "\n</think>\n")]
)
def test_a_good_reply_gives_its_reasoning_on_one_line(text: str) -> None:
    found = read_reply(SAMPLE, text)
    assert found == "A car waits at <c1,CAM_FRONT,880.5,442.5>. Braking beats 5.5 m of progress."


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "wrong_form"),
        ("Stop, because a car waits.", "wrong_form"),
        ("<think>One. Two.</think>", "wrong_form"),
        (f"Sure! {GOOD}", "wrong_form"),
        (GOOD + GOOD, "wrong_form"),
        (reply("One. <think>Two.", "Stop."), "wrong_form"),
        (reply("One. Two.", "Go."), "other_answer"),
        (reply("One. Two.", ""), "other_answer"),
        (reply(""), "too_short"),
        (reply("One."), "too_short"),
        (reply("One. Two. Three. Four."), "too_long"),
        (reply("A car waits. Hence the given answer is to stop."), "tells_of_the_given_answer"),
        (reply("A car waits. The ground truth says stop."), "tells_of_the_given_answer"),
    ],
)
def test_a_reply_that_cannot_be_used_is_refused_for_its_reason(text: str, reason: str) -> None:
    assert reason_of(read_reply(SAMPLE, text)) == reason


def test_case_and_a_last_full_stop_make_no_other_answer() -> None:
    assert isinstance(read_reply(SAMPLE, reply("One. Two.", " stop ")), str)


def test_an_option_may_be_named_with_its_text_but_not_with_another() -> None:
    for answer in ("B", "B.", "B. Stop."):
        assert isinstance(read_reply(CHOICE, reply("One. Two.", answer)), str)
    for answer in ("A", "B. Go.", "C"):
        assert reason_of(read_reply(CHOICE, reply("One. Two.", answer))) == "other_answer"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("...", 0),
        ("No stop at the end", 1),
        ("The car at <c1,CAM_BACK,1088.3,497.5> is 3.5 m away, e.g. parked.", 1),
        ("Is it red? Yes! It is.", 3),
        ('It says "Stop." Then go.', 2),
    ],
)
def test_sentences_are_counted_past_numbers_tags_and_abbreviations(text: str, count: int) -> None:
    assert sentences(text) == count


@given(st.lists(st.text(alphabet="abc ,", min_size=1).filter(str.strip), max_size=6))
def test_as_many_sentences_are_counted_as_were_joined(parts: list[str]) -> None:
    assert sentences(" ".join(f"{part.strip()}." for part in parts if part.strip(" ,"))) == sum(
        bool(part.strip(" ,")) for part in parts
    )


@given(st.text())
def test_no_reply_breaks_the_reader(text: str) -> None:
    assert isinstance(read_reply(SAMPLE, text), str | Refusal)


# --- the teacher ------------------------------------------------------------------------------------------------------


def client(answer: Callable[[dict[str, Any]], str | int]) -> openai.AsyncOpenAI:
    """A client whose other side answers a request body with a text, or with an HTTP status."""

    def respond(request: httpx.Request) -> httpx.Response:
        said = answer(json.loads(request.content))
        if isinstance(said, int):
            return httpx.Response(said, json={"error": {"message": "no"}})
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": said}}
        body = {"id": "1", "object": "chat.completion", "created": 0, "model": "big", "choices": [choice]}
        return httpx.Response(200, json=body)

    transport: Any = httpx.AsyncClient(transport=httpx.MockTransport(respond))
    return openai.AsyncOpenAI(base_url=SETTINGS.url, api_key="k", http_client=transport, max_retries=0)


async def test_a_refused_reply_is_asked_for_again_with_the_reason() -> None:
    bodies: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> str:
        bodies.append(body)
        return "I think so." if len(bodies) == 1 else GOOD

    record = await ask(client(answer), SETTINGS, SAMPLE)
    assert (record.attempts, record.dropped, record.task, record.teacher) == (2, "", "planning", "big")
    assert record.prompt == reasoning_prompt("planning").label
    assert [message["role"] for message in bodies[1]["messages"]] == ["system", "user", "assistant", "user"]
    assert bodies[1]["messages"][2:] == complaint("I think so.", read_refusal("I think so."))


def read_refusal(text: str) -> Refusal:
    found = read_reply(SAMPLE, text)
    assert isinstance(found, Refusal)
    return found


async def test_after_the_last_attempt_the_sample_is_dropped_for_the_last_reason() -> None:
    record = await ask(client(lambda _: reply("One.")), SETTINGS, SAMPLE)
    assert (record.reasoning, record.dropped, record.attempts) == ("", "too_short", 3)


async def test_a_request_that_the_other_side_refuses_drops_the_sample() -> None:
    assert (await ask(client(lambda _: 400), SETTINGS, SAMPLE)).dropped == "http_400"


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_wrong_key_or_model_ends_the_run_with_one_sentence(status: int) -> None:
    with pytest.raises(DataError, match="http://teacher/v1.*'big'"):
        await ask(client(lambda _: status), SETTINGS, SAMPLE)


async def test_a_run_that_was_stopped_goes_on_and_asks_again_only_where_reasoning_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = [replace(SAMPLE, id=name, question=f"{name}?") for name in "abcd"]
    asked: list[str] = []

    def answer(body: dict[str, Any]) -> str | int:
        name = body["messages"][1]["content"][0]["text"].split()[1][0]
        asked.append(name)
        return 500 if name == "b" and asked.count("b") == 1 else GOOD

    monkeypatch.setattr(teacher, "client_of", lambda _: client(answer))
    out = tmp_path / "deep" / "r.jsonl"
    first = await distil(samples[:2], SETTINGS, out)
    assert (first.done, first.dropped) == ({"a"}, {"http_500": 1})
    assert summary(samples[:2], first) == "1 of 2 samples with reasoning (1 planning); 1 dropped for http_500"
    out.write_text(out.read_text() + '{"id": "c", "sc')  # as a process that was killed leaves it
    second = await distil(samples, SETTINGS, out)
    assert (second.done, second.dropped, len(second.unreadable)) == (set("abcd"), {}, 1)
    assert sorted(asked) == ["a", "b", "b", "c", "d"]


async def test_the_first_fault_of_the_endpoint_stops_the_run_and_keeps_what_was_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies: Iterator[str | int] = iter([GOOD, 401, 401])
    monkeypatch.setattr(teacher, "client_of", lambda _: client(lambda _: next(replies)))
    one_by_one = replace(SETTINGS, concurrent=1)
    with pytest.raises(DataError, match="refuses model"):
        await distil([replace(SAMPLE, id=name) for name in "abc"], one_by_one, tmp_path / "r.jsonl")
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1


def test_the_command_knows_its_arguments() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser, [])
    line = "--annotations a.json --image-root n --out o.jsonl --url http://x/v1 --model m --no-images --limit 3"
    arguments = parser.parse_args(line.split())
    assert (arguments.out, arguments.limit, arguments.no_images) == (Path("o.jsonl"), 3, True)


@pytest.mark.parametrize("flag", ["--concurrent", "--attempts", "--limit"])
def test_nobody_is_asked_no_times(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = "distil --annotations a.json --image-root n --out o.jsonl --url http://x/v1 --model m"
    assert main([*line.split(), flag, "0"]) == 2
    assert capsys.readouterr().err == f"error: {flag} must be at least 1, got 0\n"


@needs_real_data
def test_the_true_answer_of_every_real_question_is_known_again_in_a_reply() -> None:
    loaded = load_as("drivelm", REAL / "challenge" / "data" / "train_sample.json", REAL / "nuscenes")
    thoughts = {1: "One.", 2: "One. Two."}
    for sample in loaded.samples:
        good = reply(thoughts[reasoning_prompt(sample.task).fewest], sample.answer)
        assert isinstance(read_reply(sample, good), str), sample.id
        assert sample.answer in distillation_request(sample).user
