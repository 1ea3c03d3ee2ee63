"""What asking a model, or reporting on a file, decides before anything is started."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from actors.measuring.answerer import Reply
from commands.evaluate import main
from commands.measure_suite import FileAnswerer, file_marks
from commands.model_recipe import recipe_arguments
from data.rollout import SamplingSettings
from data.sample import DrivingSample
from evaluation.suites.record import read_record
from evaluation.suites.suite import Question
from recipe import RecipeError, load_recipe
from tests.drawn import draw, six_cameras, written
from tests.unit import test_drivebench_suite as drivebench
from tests.unit import test_suites_from_files as from_files

SAMPLE = DrivingSample("q", "s", "frame", "planning", "yes_no", "Is it free?", "Yes.", {})


async def answers(texts: dict[str, str], *questions: Question) -> list[tuple[str, str | None]]:
    replies: list[Reply] = []
    await FileAnswerer(texts).answer([(one, 0) for one in questions], SamplingSettings(0.0, 1), replies.append)
    return [(reply.text, reply.failure) for reply in replies]


async def test_an_answer_without_a_setting_is_credited_to_no_other_setting() -> None:
    clean, fog = Question(SAMPLE, "clean", ("q",)), Question(SAMPLE, "Fog")
    assert await answers({"q": "Yes."}, clean, fog) == [("Yes.", None), ("", "not_in_the_file")]
    assert await answers({"Fog/q": "No."}, clean, fog) == [("", "not_in_the_file"), ("No.", None)]


async def test_a_file_may_call_a_question_by_its_key_frame() -> None:
    assert await answers({"frame": "[]"}, Question(SAMPLE, file_ids=("frame",))) == [("[]", None)]


def test_the_folder_of_a_run_stands_for_its_recipe_with_merged_weights(tmp_path: Path) -> None:
    lora = "policy: {model: somewhere, lora: {rank: 4}}\nrollout: {adapters: apart}\n"
    (tmp_path / "recipe.yaml").write_text(f"run: {{name: mine}}\n{lora}")
    with pytest.raises(RecipeError, match=r"policy/config\.json"):
        recipe_arguments(str(tmp_path), None, [])
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "config.json").write_text("{}")
    recipe = load_recipe(recipe_arguments(str(tmp_path), None, ["rollout.max_tokens=9"]))
    assert (recipe.policy.model, recipe.policy.lora) == (str(tmp_path / "policy"), None)
    assert (recipe.rollout.adapters, recipe.rollout.max_tokens) == ("merged", 9)


def test_weights_that_were_written_again_bear_other_marks(tmp_path: Path) -> None:
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"first")
    before = file_marks(tmp_path)
    weights.write_bytes(b"second")
    assert file_marks(tmp_path) != before
    assert file_marks(Path("owner/name")) == {}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--model", "x", "--predictions", "y"], "name either --model, which is asked, or --predictions"),
        ([], "name either --model, which is asked, or --predictions"),
        (["--model", "http://nobody:1/v1"], "name what it calls its model with --served-model"),
        (["--model", "x", "--repeats", "0"], "--repeats: Input should be greater than or equal to 1"),
        (["--model", "x", "--limit", "0", "--scenes", "1"], "--limit: Input should be greater than or equal to 1"),
        (["--predictions", "y", "run.name=x"], "nobody judges: name reward.judge.model"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_and_code_2(
    arguments: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rendered", "--cache", str(tmp_path), *arguments]) == 2
    printed = capsys.readouterr().err
    assert sentence in printed
    assert printed.count("\n") == 1


def test_a_predictions_file_gets_the_folder_and_the_report_too(tmp_path: Path) -> None:
    """BDD-OIA, of whose three frames one confused the annotators and one has no reason."""
    out, arguments = tmp_path / "out", from_files.bdd_oia(tmp_path)
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        draw(tmp_path / name)
    assert main([*arguments, "--image-root", str(tmp_path), "--out", str(out)]) == 0
    record, answered = read_record(out)
    assert [one.sample_id for one in answered] == ["a.jpg", "b.jpg"]
    assert (record.cost.response_tokens, record.cost.seconds_per_question) == (None, None)
    assert record.faults == {"not_asked_confused_label": 1}
    assert record.sampling == {"judge": None}, "nobody here knows how the file's answers were sampled"
    page = (out / "report.html").read_text()
    assert "Temperature" not in page
    assert "Measured on 2 questions, 2 answers" in page
    assert json.loads((out / "asked.json").read_text())["suite"] == "bdd_oia"


def test_drivebenchs_own_predictions_get_the_folder_and_the_report_too(tmp_path: Path) -> None:
    six_cameras(tmp_path / "samples", "one")
    asked = drivebench.entry(drivebench.STATUS, "B", "perception")
    own, out = written(tmp_path / "own.json", [asked | {"pred": "B"}]), tmp_path / "out"
    files = ["--answers", str(written(tmp_path / "test.json", [asked])), "--predictions", str(own)]
    assert main(["drivebench", *files, "--settings", "clean", "--image-root", str(tmp_path), "--out", str(out)]) == 0
    record, answered = read_record(out)
    assert [(one.sample_id, one.value) for one in answered] == [("s_f_0", 100.0)]
    assert record.faults == {}
    page = (out / "report.html").read_text()
    assert "DriveRX 8B" in page
    assert "do not compare" in page


def test_a_page_counts_the_answers_that_a_predictions_file_gives(tmp_path: Path) -> None:
    six_cameras(tmp_path / "samples", "one")
    entries = [
        drivebench.entry(drivebench.STATUS, "B", "perception"),
        drivebench.entry(drivebench.STATUS, "A", "perception") | {"frame_token": "g"},
    ]
    own, out = written(tmp_path / "own.json", [entries[0] | {"pred": "B"}]), tmp_path / "out"
    files = ["--answers", str(written(tmp_path / "test.json", entries)), "--predictions", str(own)]
    assert main(["drivebench", *files, "--settings", "clean", "--image-root", str(tmp_path), "--out", str(out)]) == 0
    assert len(read_record(out)[1]) == 1
    assert "Measured on 2 questions, 1 answer." in (out / "report.html").read_text()
