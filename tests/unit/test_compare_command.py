"""`evaluate.py compare`: what it reads, prints, warns of and refuses, and its page."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from pydantic import BaseModel

from commands import evaluate
from evaluation.comparison.compared_run import NOT_OF_THE_SCORE
from evaluation.held_out import AnswerRecord, EvaluationResult
from evaluation.numbers import probability
from evaluation.run_record import evaluation_path
from evaluation.suites.record import read_record, write_record
from rewards.settings import ClipSettings, JudgeSettings, RewardSettings
from tests.answered import answered
from tests.page import Page
from tests.suite_runs import record

ROOT = Path(__file__).parents[2]
ATTACK = '<script>alert("six cameras")</script>'
REWARD = {"routes": [{"task": "any", "scorers": {"judge": 1.0}}], "judge": {"model": "qwen", "threads": 1}}

Compare = Callable[..., tuple[str, dict[str, Any]]]


def training_run(
    folder: Path, evaluations: dict[str, Sequence[AnswerRecord]], reward: dict[str, Any] | None = None
) -> Path:
    (folder / "evaluation").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"run": {"name": folder.name}, "reward": reward or REWARD}))
    for name, answers in evaluations.items():
        result = EvaluationResult(
            name=name,
            weight_version=7,
            samples=len(answers),
            scenes=(),
            tasks={},
            reward=None,
            behavior_accuracy=None,
            masked={},
            answers=tuple(answers),
        )
        evaluation_path(folder, name).write_text(result.to_json())
    return folder


def benchmark_run(
    folder: Path, answers: Sequence[AnswerRecord], judge: str | None = None, suite: str = "bench"
) -> Path:
    sampling = {"temperature": 0.0, "judge": judge}
    write_record(folder, record(suite=suite, sampling=sampling), answers)
    return folder


def answers(*values: float, **changes: Any) -> list[AnswerRecord]:
    return [answered(str(number), value, **changes) for number, value in enumerate(values)]


@pytest.fixture
def compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Compare:
    """What the command prints above its last line, and that line read."""

    def run(*arguments: str | Path) -> tuple[str, dict[str, Any]]:
        given = [*map(str, arguments), "--resamples", "200", "--out", str(tmp_path / "page.html")]
        assert evaluate.main(["compare", *given]) == 0
        table, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
        return table, json.loads(last)

    return run


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """The one sentence with which the command refuses."""

    def run(*arguments: str | Path) -> str:
        assert evaluate.main(["compare", *map(str, arguments), "--out", str(tmp_path / "page.html")]) == 2
        printed = capsys.readouterr().err
        assert printed.startswith("error: ")
        assert printed.count("\n") == 1
        assert not (tmp_path / "page.html").exists()
        return printed

    return run


def test_two_training_runs_are_compared_after_training(tmp_path: Path, compare: Compare) -> None:
    a = training_run(tmp_path / "a", {"before": answers(0, 0), "after": answers(0, 100, 50, 9)})
    b = training_run(tmp_path / "b", {"before": answers(0, 0), "after": answers(100, 100, 70)})
    table, found = compare(a, b)
    assert found["tasks"]["planning"] == found["overall"]
    assert {name: found["overall"][name] for name in ("n", "a", "b", "difference", "p", "resampled")} == {
        "n": 3,
        "a": 50.0,
        "b": 90.0,
        "difference": 40.0,
        "p": None,
        "resampled": "questions",
    }
    assert found["overall"]["low"] <= 40.0 <= found["overall"]["high"]
    assert found["left_out"] == {"only_in_a": 1}
    assert found["warning"] is None
    assert found["page"] == str(tmp_path / "page.html")
    assert "left out: 1 question asked in A only" in table
    assert re.search(r"planning +3 +50\.00 +90\.00 +\+40\.00 +\[", table)
    assert "evaluation after at weight version 7" in table


def test_another_evaluation_is_named_for_both_or_given_as_a_file(tmp_path: Path, compare: Compare) -> None:
    a = training_run(tmp_path / "a", {"before": answers(10, 10), "after": answers(90, 90)})
    b = training_run(tmp_path / "b", {"before": answers(30, 30), "after": answers(90, 90)})
    assert compare(a, b, "--evaluation", "before")[1]["overall"]["difference"] == 20.0
    assert compare(a / "evaluation" / "before.json", a)[1]["overall"]["difference"] == 80.0
    assert compare(a / "evaluation" / "before.json", a)[1]["warning"] is None
    only = training_run(tmp_path / "c", {"swapped": answers(40, 40)})
    assert compare(only, only)[1]["overall"]["a"] == 40.0


def test_benchmark_runs_are_compared_by_setting(tmp_path: Path, compare: Compare) -> None:
    def asked(clean: float, fog: float) -> list[AnswerRecord]:
        return [
            one
            for repeat in range(2)
            for setting, value in (("clean", clean), ("Fog", fog))
            for one in answers(value, value, setting=setting, repeat=repeat, task="behavior")
        ]

    a, b = benchmark_run(tmp_path / "a", asked(100, 100)), benchmark_run(tmp_path / "b", asked(100, 0))
    table, found = compare(a, b)
    assert {name: one["difference"] for name, one in found["settings"].items()} == {"clean": 0.0, "Fog": -100.0}
    assert found["settings"]["Fog"]["p"] == 0.5  # two questions lost, none gained: 2 * (1/2)^2
    assert found["tasks"]["behavior"]["p"] is None  # each question stands in it twice
    assert (found["overall"]["n"], found["overall"]["flips"], found["warning"]) == (4, 2, None)
    assert "Fog" in table
    page = (tmp_path / "page.html").read_text()
    assert "Answer B · Fog · repeat 1 of 2, mean 0.0" in page


def test_what_makes_values_incomparable_is_one_warning(tmp_path: Path, compare: Compare) -> None:
    scored = answers(10, 20)
    run = training_run(tmp_path / "run", {"after": scored})
    other = training_run(tmp_path / "other", {"after": scored}, {**REWARD, "judge": {"model": "gpt", "threads": 8}})
    faster = training_run(tmp_path / "faster", {"after": scored}, {**REWARD, "judge": {"model": "qwen", "threads": 8}})
    table, found = compare(run, other)
    assert "(their recipes differ in reward.judge.model): the differences are not comparable." in found["warning"]
    assert table.count("warning: ") == 1
    assert found["warning"] in (tmp_path / "page.html").read_text()
    assert compare(run, faster)[1]["warning"] is None

    loose = tmp_path / "loose.json"
    loose.write_text((run / "evaluation" / "after.json").read_text())
    assert "not known how B was scored" in compare(run, loose)[1]["warning"]

    bench, judged = (benchmark_run(tmp_path / f"bench {judge}", scored, judge) for judge in (None, "qwen"))
    assert "A's judge was nobody, B's qwen" in compare(bench, judged)[1]["warning"]
    assert "A by a run's own reward, B by the benchmark bench" in compare(run, bench)[1]["warning"]
    second = benchmark_run(tmp_path / "second", scored, suite="second")
    assert "A by the benchmark bench, B by the benchmark second" in compare(bench, second)[1]["warning"]


def test_settings_said_not_to_change_a_score_exist() -> None:
    models: tuple[type[BaseModel], ...] = (RewardSettings, JudgeSettings, ClipSettings)
    assert {name for model in models for name in model.model_fields} >= NOT_OF_THE_SCORE


def test_a_folder_that_is_missing_or_no_run_is_named(tmp_path: Path, refused: Callable[..., str]) -> None:
    run = training_run(tmp_path / "run", {"after": answers(1)})
    assert f"{tmp_path / 'gone'} does not exist" in refused(run, tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert "has neither evaluation/ nor results.json" in refused(tmp_path / "empty", run)
    (tmp_path / "early" / "evaluation").mkdir(parents=True)
    assert "holds no evaluation yet" in refused(tmp_path / "early", run)


@pytest.mark.parametrize("content", [b"{}", b"not JSON", b"\xff\xfe", b'{"name": "after"}'])
def test_a_file_that_is_no_evaluation_is_named(tmp_path: Path, refused: Callable[..., str], content: bytes) -> None:
    run = training_run(tmp_path / "run", {"after": answers(1)})
    file = tmp_path / "odd.json"
    file.write_bytes(content)
    assert f"{file} is not an evaluation" in refused(run, file)


def test_an_unknown_evaluation_is_answered_with_those_there_are(tmp_path: Path, refused: Callable[..., str]) -> None:
    run = training_run(tmp_path / "run", {"before": answers(1), "swapped": answers(1)})
    assert "no evaluation during; --evaluation can name before, swapped" in refused(run, run, "--evaluation", "during")
    assert "no evaluation after; --evaluation can name before, swapped" in refused(run, run)
    file = run / "evaluation" / "before.json"
    assert "--evaluation before is for folders of training runs" in refused(file, file, "--evaluation", "before")


def test_no_common_question_names_both_folders_and_says_why(tmp_path: Path, refused: Callable[..., str]) -> None:
    a = training_run(tmp_path / "a", {"after": [answered("x", 1), answered("z", 1)]})
    b = training_run(tmp_path / "b", {"after": [answered("y", 1), answered("z", 1, failure="judge: timeout")]})
    said = refused(a, b)
    assert f"{a} and {b} have no scored question in common" in said
    assert "(1 asked in A only, 1 asked in B only, 1 without a score in B)" in said


def test_bad_numbers_and_a_page_that_cannot_be_written_are_refused(
    tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = training_run(tmp_path / "run", {"after": answers(1)})
    assert "--resamples: Input should be greater than or equal to 1" in refused(run, run, "--resamples", "0")
    assert evaluate.main(["compare", str(run), str(run), "--out", str(tmp_path / "gone" / "page.html")]) == 2
    assert "page.html cannot be written: No such file" in capsys.readouterr().err


# --- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_shows_what_changed_in_both_directions_with_images(tmp_path: Path, compare: Compare) -> None:
    image = tmp_path / "front.jpg"
    Image.new("RGB", (160, 90), "steelblue").save(image)
    images = {"CAM_FRONT": str(image), "CAM_BACK": str(tmp_path / "gone.jpg")}
    a = training_run(tmp_path / "a", {"after": answers(10, 90, 50, images=images, response="Said by A.")})
    b = training_run(tmp_path / "b", {"after": answers(95, 20, 50, images=images, response="Said by B.")})
    compare(a, b)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<article") == 2
    assert page.count("Said by A.") == page.count("Said by B.") == 2
    assert page.index("<b>95</b>") < page.index("B below A") < page.index("<b>20</b>")
    assert page.count("data:image/jpeg") == 2
    assert "images of this page that could not be read" in page
    assert page.count('class="whiskers level"') == 1
    assert not re.search(r"<script|url\(|@import|https?://", page)


def test_an_answer_never_becomes_markup(tmp_path: Path, compare: Compare) -> None:
    said = {"question": ATTACK, "ground_truth": ATTACK, "response": ATTACK, "parts": {ATTACK: 1.0}, "setting": ATTACK}
    changes = [benchmark_run(tmp_path / side, answers(value, 0, **said)) for side, value in (("a", 0), ("b", 100))]
    compare(*changes)
    page = (tmp_path / "page.html").read_text()
    assert "script" not in Page(page).tags
    assert Page(page).text.count(ATTACK) >= 5


def test_intervals_are_drawn_on_one_scale_around_zero(tmp_path: Path, compare: Compare) -> None:
    a = training_run(tmp_path / "a", {"after": [*answers(0, 0), answered("x", 50, task="behavior")]})
    b = training_run(tmp_path / "b", {"after": [*answers(50, 50), answered("x", 25, task="behavior")]})
    compare(a, b)
    page = (tmp_path / "page.html").read_text()
    # 0 lies at 100, the end of the scale (50) at 12 and 188: +50, -25 and, for the mean of the tasks, +12.5.
    assert sorted(re.findall(r'<circle cx="([\d.]+)"', page)) == ["122.0", "188.0", "56.0"]
    assert "−50</text>" in page


def test_a_small_p_is_not_printed_as_zero() -> None:
    assert [probability(value) for value in (None, 1.0, 0.0123, 0.00009)] == ["–", "1.0000", "0.0123", "<0.0001"]


# --- what it stands on ------------------------------------------------------------------------------------------------


def test_a_response_may_hold_any_line_separator(tmp_path: Path) -> None:
    said = answers(1.0, response="one\u2028two\x85three\nfour")
    assert read_record(benchmark_run(tmp_path / "run", said))[1] == said


@pytest.mark.slow
def test_comparing_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    run = training_run(tmp_path / "run", {"after": answers(1, 2)})
    check = (
        "import json, sys; from commands import evaluate; code = evaluate.main(json.loads(sys.argv[1])); "
        "sys.exit(code or bool({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    arguments = ["compare", str(run), str(run), "--out", str(tmp_path / "page.html")]
    assert subprocess.run([sys.executable, "-c", check, json.dumps(arguments)], cwd=ROOT, timeout=600).returncode == 0
