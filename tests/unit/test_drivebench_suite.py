from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from data.errors import DataError
from data.faults import Faults
from data.sample import CAMERAS
from evaluation.metrics.judging import judge_all
from evaluation.metrics.predictions import Predictions, PredictionsFile
from evaluation.suites.drivebench import DriveBench, DriveBenchOptions
from evaluation.suites.published import DRIVEBENCH_CLEAN_CORRUPTED
from evaluation.suites.suite import Scored
from rewards.judge import JudgeFailed, Judgement, JudgeRequest
from tests.drawn import six_cameras, written

STATUS = (
    "What is the moving status of object <c1,CAM_BACK,0.5,0.6>? Please select the correct answer from the following "
    "options: A. Going ahead. B. Stopped. C. Turn left."
)


def entry(question: str, answer: str, type_: str) -> dict[str, Any]:
    paths = {camera: f"samples/{camera}/one.jpg" for camera in CAMERAS}
    return {"scene_token": "s", "frame_token": "f", "question_type": type_, "question": question, "answer": answer,
            "tag": [0], "image_path": paths}  # fmt: skip


@pytest.fixture
def benchmark(tmp_path: Path) -> Path:
    """Two questions, one of the back camera and one of all; clean images and fog."""
    six_cameras(tmp_path / "nuscenes" / "samples", "one")
    six_cameras(tmp_path / "corruption" / "Fog", "one")
    written(tmp_path / "test.json", [entry(STATUS, "B", "perception"), entry("Is it safe to go?", "Yes.", "planning")])
    return tmp_path


def suite(folder: Path, **options: Any) -> DriveBench:
    given = {"answers": folder / "test.json", "image_root": folder / "nuscenes"} | options
    return DriveBench(DriveBenchOptions.model_validate(given))


def said(answers: dict[str, str]) -> Predictions:
    return Predictions(answers, {})


def test_every_question_is_asked_clean_under_each_corruption_and_without_images(benchmark: Path) -> None:
    asked = suite(benchmark, corruptions=benchmark / "corruption").questions(Faults(), benchmark)
    settings = ("clean", "Fog", "no_image")
    assert [one.key for one in asked] == [f"{setting}/s_f_{n}" for setting in settings for n in (0, 1)]
    clean, _, fog, _, black, _ = (one.sample.images for one in asked)
    assert "nuscenes/samples" in clean["CAM_BACK"]
    assert "corruption/Fog" in fog["CAM_BACK"]
    with Image.open(black["CAM_BACK"]) as image:
        assert (image.size, image.getextrema()) == ((1600, 900), ((0, 0),) * 3)


def test_a_question_is_shown_with_the_cameras_it_names_or_with_all(benchmark: Path) -> None:
    about_back, about_all = suite(benchmark, settings="clean").questions(Faults(), benchmark)
    assert list(about_back.sample.images) == ["CAM_BACK"]
    assert list(about_all.sample.images) == list(CAMERAS)


def test_settings_are_scored_apart_and_an_id_alone_is_clean(benchmark: Path) -> None:
    answers = {"s_f_0": "B", "s_f_1": "Yes.", "Fog/s_f_0": "A. Going ahead.", "Fog/s_f_1": "Yes, it is."}
    result = suite(benchmark).score(said(answers | {"no_image/s_f_0": "B and C"}))
    figures = result.figures
    assert [figures[f"accuracy/{name}/perception"] for name in ("clean", "Fog", "no_image")] == [100.0, 0.0, 0.0]
    assert (figures["accuracy/corrupted/planning"], figures["accuracy/drop/perception"]) == (100.0, 100.0)
    assert result.faults == {"missing_prediction": 1}
    assert dict(result.rows)["answers that choose nothing, or several"] == "1"
    (bars,) = result.bars
    assert bars.groups == ("clean", "Fog", "no_image")
    assert dict(bars.series)["planning"] == (100.0, 100.0, None)


async def test_a_judge_fills_the_tables_beside_which_the_paper_stands(benchmark: Path) -> None:
    class Points:
        async def judge(self, request: JudgeRequest) -> Judgement:
            if "Going ahead" in request.user.split("<answer>")[-1]:
                raise JudgeFailed("timeout", "too slow")
            return Judgement(60.0, {}, "")

    given = said({"s_f_0": "B", "s_f_1": "Yes.", "Fog/s_f_0": "A. Going ahead."})
    judgements = await judge_all(Points(), suite(benchmark).judge_requests(given))
    result = suite(benchmark).score(given, judgements)
    assert result.figures["judge/clean/perception"] == 60.0
    assert "judge/Fog/perception" not in result.figures
    assert result.faults["judge_timeout"] == 1
    assert (result.answers["clean/s_f_1"].value, result.answers["Fog/s_f_0"].failure) == (60.0, "timeout")
    by_judge = next(table for table in result.tables if table.title == "DriveBench: score by the judge")
    assert by_judge.published == DRIVEBENCH_CLEAN_CORRUPTED
    assert len(by_judge.columns) == len(by_judge.published[0][1]) == 8


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"settings": "clean,Smoke"}, "--settings Smoke has no images; settings: clean, no_image"),
        ({"corruptions": "nowhere"}, "--corruptions nowhere does not exist or is not a folder"),
        ({"image_root": "nowhere"}, "--image-root nowhere is not a folder: to ask a model"),
    ],
)
def test_a_wrong_option_is_one_sentence(benchmark: Path, wrong: dict[str, str], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        suite(benchmark, **wrong).questions(Faults(), benchmark)


def own_predictions(folder: Path, preds: list[str | None]) -> PredictionsFile:
    """What the benchmark's own inference writes: its question entries, the truth under `answer`, and `pred`."""
    entries = json.loads((folder / "test.json").read_text())
    found = [entry | ({} if pred is None else {"pred": pred}) for entry, pred in zip(entries, preds, strict=False)]
    return PredictionsFile(predictions=written(folder / "own.json", found))


def scored(folder: Path, file: PredictionsFile, **options: Any) -> Scored:
    of_options = suite(folder, **options)
    return of_options.score(of_options.predictions(file))


def test_the_benchmarks_own_predictions_are_known_by_their_tokens(benchmark: Path) -> None:
    result = scored(benchmark, own_predictions(benchmark, ["A. Going ahead.", "Yes."]))
    assert (result.figures["accuracy/clean/perception"], result.figures["accuracy/clean/planning"]) == (0.0, 100.0)
    assert result.faults == {}
    fog = scored(benchmark, own_predictions(benchmark, ["B", "No."]), settings="Fog")
    assert (fog.figures["accuracy/Fog/perception"], fog.figures["accuracy/Fog/planning"]) == (100.0, 0.0)
    assert scored(benchmark, own_predictions(benchmark, ["B"])).faults == {"missing_prediction": 1}


def test_the_truth_of_a_question_without_a_prediction_is_no_prediction(benchmark: Path) -> None:
    found = scored(benchmark, own_predictions(benchmark, ["B", None]))
    assert found.faults == {"missing_prediction": 1, "no_answer": 1}
    with pytest.raises(DataError, match="no usable prediction"):
        scored(benchmark, own_predictions(benchmark, [None, None]))


def own_entries(file: PredictionsFile) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(file.predictions.read_text())
    return found


def test_own_predictions_are_joined_by_what_they_ask_in_any_order(benchmark: Path) -> None:
    given = own_predictions(benchmark, ["B", "No."])
    first, second = own_entries(given)
    for listed, faults in (([second, first], {}), ([second], {"missing_prediction": 1})):
        found = scored(benchmark, PredictionsFile(predictions=written(benchmark / "own.json", listed)))
        assert (found.figures["accuracy/clean/planning"], found.faults) == (0.0, faults)
    prompted = second | {"question": f"<image>\nYou drive.  {second['question']}\nReply briefly."}
    other = second | {"question": "Why?"}
    found = scored(benchmark, PredictionsFile(predictions=written(benchmark / "own.json", [prompted, other])))
    assert (found.figures["accuracy/clean/planning"], found.faults) == (
        0.0, {"missing_prediction": 1, "unknown_id": 1},
    )  # fmt: skip


def test_of_two_questions_in_one_text_the_longer_is_meant(benchmark: Path) -> None:
    entries = [entry("Is it safe to go?", "Yes.", "planning"), entry("Is it safe to go? Why?", "No.", "planning")]
    written(benchmark / "test.json", entries)
    found = scored(benchmark, own_predictions(benchmark, ["No.", "No."]))
    assert found.figures["accuracy/clean/planning"] == 50.0


def test_a_prediction_that_may_be_of_two_questions_is_refused_by_the_question(benchmark: Path) -> None:
    twice = [entry("Is it safe to go?", answer, "planning") for answer in ("Yes.", "No.")]
    written(benchmark / "test.json", [*twice, entry("Is it dark?", "No.", "planning")])
    with pytest.raises(DataError, match=r"several questions of frame f that 'Is it safe to go\?' may mean"):
        scored(benchmark, own_predictions(benchmark, ["Yes.", "No.", "No."]))
    third = own_entries(own_predictions(benchmark, ["Yes.", "No.", "No."]))[2:]
    found = scored(benchmark, PredictionsFile(predictions=written(benchmark / "own.json", third)))
    assert found.figures["accuracy/clean/planning"] == 100.0


def test_questions_that_are_alike_in_all_are_answered_one_after_the_other(benchmark: Path) -> None:
    written(benchmark / "test.json", [entry("Is it safe to go?", "Yes.", "planning")] * 2)
    found = scored(benchmark, own_predictions(benchmark, ["Yes.", "No."]))
    assert (found.figures["accuracy/clean/planning"], found.faults) == (50.0, {})


def test_an_own_prediction_for_a_question_that_was_left_out_is_no_unknown_one(benchmark: Path) -> None:
    entries = json.loads((benchmark / "test.json").read_text())
    written(benchmark / "test.json", [entries[0], entries[1] | {"question_type": "plan"}])
    assert scored(benchmark, own_predictions(benchmark, ["B", "Yes."])).faults == {"unknown_task": 1}


def test_own_predictions_need_one_known_setting(benchmark: Path) -> None:
    with pytest.raises(
        DataError, match="--settings Smoke is no setting of a predictions file without ids; settings: clean, "
    ):
        scored(benchmark, own_predictions(benchmark, ["B"]), settings="Smoke")


def test_a_predictions_file_of_other_questions_is_refused(benchmark: Path) -> None:
    with pytest.raises(DataError, match="is this the right answer file"):
        suite(benchmark).score(said({"other": "B"}))
