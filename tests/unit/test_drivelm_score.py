from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from commands import evaluate
from data.errors import DataError
from evaluation.metrics.drivelm import DriveLMResult, score_predictions
from evaluation.metrics.predictions import read_predictions

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "drivelm" / "challenge"
needs_real_data = pytest.mark.skipif(not REAL.is_dir(), reason=f"the DriveLM sample is not at {REAL}")

OBJECTS = "A car and a sign. The IDs are <c1,CAM_BACK,100.0,50.0> and <c2,CAM_FRONT,800.5,400.0>."
TRUTHS = {
    "perception": [("What are the important objects?", OBJECTS, [2]), ("What is <c1,CAM_BACK,100.0,50.0>?", "B", [0])],
    "prediction": [("What first?", "First <c1,CAM_BACK,100.0,50.0>.", [3])],
    "planning": [("What leads to a collision with <c2,CAM_FRONT,800.5,400.0>?", "Back up.", [1])],
    "behavior": [("Predict the behavior.", "C", [0])],
}


def answer_tree() -> dict[str, Any]:
    qa = {task: [{"Q": q, "A": a, "tag": tag} for q, a, tag in entries] for task, entries in TRUTHS.items()}
    return {"scene": {"key_frames": {"frame": {"QA": qa}}}}


def lists_of(tree: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    return tree["scene"]["key_frames"]["frame"]["QA"]


def perfect() -> list[dict[str, Any]]:
    texts = [a for entries in TRUTHS.values() for _, a, _ in entries]
    return [{"id": f"scene_frame_{index}", "answer": text} for index, text in enumerate(texts)]


@pytest.fixture
def scored(tmp_path: Path) -> Callable[..., DriveLMResult]:
    def score(predictions: Any, tree: Any = None, **options: Any) -> DriveLMResult:
        files = tmp_path / "test_eval.json", tmp_path / "output.json"
        for file, content in zip(files, (answer_tree() if tree is None else tree, predictions), strict=True):
            file.write_text(content if isinstance(content, str) else json.dumps(content))
        return score_predictions(files[0], read_predictions(files[1], strict=bool(options.get("strict"))), **options)

    return score


@needs_real_data
def test_the_challenges_own_submission_is_scored() -> None:
    result = score_predictions(REAL / "test_eval.json", read_predictions(REAL / "submission.json"))
    listed = json.loads((REAL / "submission.json").read_text())["results"]
    answered = {entry["id"] for entry in listed}
    assert result.scored > 0
    assert {pair.id for pair in result.pairs} <= answered
    assert set(result.faults) <= {"missing_prediction"}


# --- the published rows -----------------------------------------------------------------------------------------------


def real_predictions(change: Callable[[dict[str, Any]], str]) -> list[dict[str, Any]]:
    return [{"id": entry["id"], "answer": change(entry)} for entry in json.loads((REAL / "output.json").read_text())]


@needs_real_data
def test_the_official_predictions_give_the_reference_row() -> None:
    figures = score_predictions(REAL / "test_eval.json", read_predictions(REAL / "output.json"), strict=True).figures()
    expected = {
        "questions": 66,
        "kept": 31,
        "accuracy": 0.0,
        "bleu1": 0.198785,
        "bleu4": 2.24e-6,
        "rouge_l": 0.184217,
        "cider": 0.001723,
        "language": 0.087255,
        "match_f1": 0.0,
    }
    assert {name: figures[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert figures["faults"] == {}


@needs_real_data
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # kept, accuracy, match F1 and language of the official evaluation with its Java tokeniser
        (lambda e: e["gt_answer"], (66, 1.0, 99.999999, 1.0)),
        (lambda e: e["gt_answer"].lower(), (66, 0.0, 99.999999, 1.0)),
        (lambda e: e["gt_answer"][:100], (31, 1.0, 49.999999, 0.189583)),
        (lambda e: e["gt_answer"] * 2, (66, 0.0, 66.666666, 0.402182)),
        (
            lambda e: re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]) + 7.9:.1f}", e["gt_answer"]),
            (66, 1.0, 99.999999, 0.758991),
        ),
        (
            lambda e: re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]) + 8.0:.1f}", e["gt_answer"]),
            (31, 1.0, 0.0, 0.758991),
        ),
    ],
    ids=["truth", "lower-cased", "truncated", "twice", "shifted by 7.9", "shifted by 8"],
)
def test_changed_predictions_give_the_official_figures(
    change: Callable[[dict[str, Any]], str], expected: tuple[float, ...], scored: Callable[..., DriveLMResult]
) -> None:
    result = scored(real_predictions(change), (REAL / "test_eval.json").read_text())
    assert (result.scored, result.accuracy, result.match_f1, result.language) == pytest.approx(expected, abs=2e-6)


# --- the rules --------------------------------------------------------------------------------------------------------


def test_a_perfect_prediction_keeps_all_and_a_missing_judge_counts_0(scored: Callable[..., DriveLMResult]) -> None:
    result = scored(perfect())
    assert (result.scored, result.accuracy, result.judge, result.judged) == (5, 1.0, 0.0, False)
    assert result.match == pytest.approx(50, abs=1e-5)
    assert result.samples == {"accuracy": 2, "judge": 1, "language": 1, "match": 1}
    assert result.final_score == pytest.approx(0.2 * result.language + 0.2 * 0.5 + 0.2, abs=1e-6)  # type: ignore[operator]


def test_a_judge_counts_in_its_own_part_and_in_half_of_match(scored: Callable[..., DriveLMResult]) -> None:
    ids = [prediction["id"] for prediction in perfect()]
    result = scored(perfect(), judged=dict.fromkeys(ids, 80.0))
    assert (result.judge, result.judged) == (80.0, True)
    assert result.match == pytest.approx(90, abs=1e-5)


def test_a_judgement_that_could_not_be_had_counts_in_no_mean(scored: Callable[..., DriveLMResult]) -> None:
    result = scored(perfect(), judged={})
    assert (result.judge, result.match, result.final_score, result.judged) == (None, None, None, True)


def test_a_question_is_kept_only_when_the_first_prediction_hit_its_points(scored: Callable[..., DriveLMResult]) -> None:
    predictions = perfect()
    predictions[0]["answer"] = "<c1,CAM_BACK,107.9,42.1>"  # L1 15.8 from the first object, nothing near the second
    assert [pair.id[-1] for pair in scored(predictions).pairs] == ["0", "1", "2", "4"]
    predictions[0]["answer"] = "<c1,CAM_BACK,108.0,42.0>"  # 16 is too far
    assert [pair.id[-1] for pair in scored(predictions).pairs] == ["0", "2", "4"]


def test_accuracy_compares_strings_as_they_are(scored: Callable[..., DriveLMResult]) -> None:
    predictions = perfect()
    predictions[1]["answer"] = "B "
    assert scored(predictions).accuracy == 0.5


def test_of_an_id_twice_the_last_answer_counts(scored: Callable[..., DriveLMResult]) -> None:
    result = scored([{"id": "scene_frame_1", "answer": "A"}, *perfect()])
    assert (result.accuracy, result.faults) == (1.0, {"duplicate_id": ["scene_frame_1"]})


def test_a_part_without_samples_has_no_value_and_neither_has_the_sum(scored: Callable[..., DriveLMResult]) -> None:
    tree = answer_tree()
    lists_of(tree)["prediction"][0]["tag"] = [0]
    figures = scored(perfect(), tree).figures()
    assert (figures["match_f1"], figures["match"], figures["final_score"]) == (None, None, None)
    assert figures["accuracy"] == 1.0
    for entries in lists_of(tree).values():
        for entry in entries:
            entry["tag"] = [1]
    figures = scored(perfect(), tree).figures()
    assert [figures[name] for name in ("accuracy", "bleu1", "bleu4", "rouge_l", "cider", "language")] == [None] * 6


# --- bad input --------------------------------------------------------------------------------------------------------


def without(index: int) -> list[dict[str, Any]]:
    return [entry for number, entry in enumerate(perfect()) if number != index]


@pytest.mark.parametrize(
    ("predictions", "change", "faults", "kept"),
    [
        (without(1), None, {"missing_prediction": ["scene_frame_1"]}, 4),
        (without(0), None, {"missing_prediction": ["scene_frame_0"]}, 2),
        ([*perfect(), {"id": "else", "answer": "B"}], None, {"unknown_id": ["else"]}, 5),
        ([*perfect(), {"answer": "B"}], None, {"no_id": ["[5]"]}, 5),
        ([*perfect(), {"id": "scene_frame_9"}], None, {"no_answer": ["scene_frame_9"]}, 5),
        (
            [*without(4), {"id": "scene_frame_4", "answer": " "}],
            None,
            {"empty_answer": ["scene_frame_4"]},
            5,
        ),
        (
            [*without(2), {"id": "scene_frame_2", "answer": "100.0, 50.0 and 7.5"}],
            None,
            {"odd_number_of_coordinates": ["scene_frame_2"]},
            5,
        ),
        (perfect(), lambda qa: qa["planning"][0].pop("tag"), {"missing_key": ["scene_frame_3"]}, 4),
        (perfect(), lambda qa: qa["planning"][0].pop("Q"), {"missing_key": ["scene_frame_3"]}, 4),
        (perfect(), lambda qa: qa["planning"][0].update(tag=1), {"wrong_type": ["scene_frame_3"]}, 4),
        (perfect(), lambda qa: qa["planning"][0].update(tag=[7]), {"unknown_tag": ["scene_frame_3"]}, 4),
        (perfect(), lambda qa: qa["planning"][0].update(tag=[]), {"no_tag": ["scene_frame_3"]}, 4),
        (perfect(), lambda qa: qa["planning"][0].update(A=None), {"wrong_type": ["scene_frame_3"]}, 4),
        (perfect(), lambda qa: qa["planning"][0].update(A=""), {"empty_truth": ["scene_frame_3"]}, 5),
        (perfect(), lambda qa: qa.update(behaviour=[]), {"unknown_task": ["scene_frame.QA.behaviour"]}, 5),
        (
            perfect(),
            lambda qa: qa["planning"][0].update(Q="Is 800.5, 400.0, 3.5 near?"),
            {"odd_number_of_coordinates": ["scene_frame_3"]},
            5,
        ),
    ],
)
def test_a_fault_is_named_with_its_record_and_the_rest_is_used(
    scored: Callable[..., DriveLMResult],
    predictions: list[dict[str, Any]],
    change: Callable[[dict[str, Any]], Any] | None,
    faults: dict[str, list[str]],
    kept: int,
) -> None:
    tree = answer_tree()
    if change:
        change(lists_of(tree))
    result = scored(predictions, tree)
    assert result.faults == faults
    assert result.scored == kept
    assert any(ids[0] in note for ids in faults.values() for note in result.notes)
    with pytest.raises(DataError, match=next(iter(faults))):
        scored(predictions, tree, strict=True)


def test_a_missing_list_is_named_and_the_others_keep_their_numbers(scored: Callable[..., DriveLMResult]) -> None:
    tree = answer_tree()
    del lists_of(tree)["behavior"]
    result = scored(perfect()[:4], tree)
    assert (result.scored, result.faults) == (4, {"missing_key": ["scene_frame.QA"]})
    assert "scene_frame.QA has no 'behavior'" in result.notes


@pytest.mark.parametrize(
    ("predictions", "tree", "message"),
    [
        (perfect(), perfect(), r"test_eval.json holds a list; .* \(were the two files swapped\?\)"),
        (perfect(), "{", r"test_eval.json is not valid JSON: line 1 column 2"),
        (perfect(), {"scene": {}}, r"holds no question with a tag; first: scene has no 'key_frames'"),
        ([{"id": "other_0", "answer": "A"}], None, "is this the right answer file"),
        ([], None, "holds no usable prediction"),
        ("[", None, "output.json is neither JSON nor JSONL"),
    ],
)
def test_files_of_which_nothing_is_left_are_one_error(
    scored: Callable[..., DriveLMResult], predictions: Any, tree: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        scored(predictions, tree)
    assert "\n" not in str(caught.value)


# --- the command ------------------------------------------------------------------------------------------------------


def write_files(folder: Path, predictions: Any) -> list[str]:
    (folder / "a.json").write_text(json.dumps(answer_tree()))
    (folder / "p.json").write_text(json.dumps(predictions))
    return ["drivelm", "--answers", str(folder / "a.json"), "--predictions", str(folder / "p.json")]


def test_the_command_prints_faults_and_figures_and_writes_details(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_files(tmp_path, without(1))
    assert evaluate.main([*arguments, "--details", str(tmp_path / "details.json")]) == 0
    printed = capsys.readouterr().out
    assert "fault: scene_frame_1 has no prediction" in printed
    figures = json.loads(printed.splitlines()[-1])
    assert (figures["kept"], figures["faults"]) == (4, {"missing_prediction": 1})
    details = json.loads((tmp_path / "details.json").read_text())
    assert details["figures"] == figures
    assert [pair["id"] for pair in details["pairs"]] == [f"scene_frame_{index}" for index in (0, 2, 3, 4)]
    assert details["faults"] == {"missing_prediction": ["scene_frame_1"]}


def test_strict_faults_and_bad_paths_end_with_code_2_and_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = write_files(tmp_path, without(1))
    assert evaluate.main([*arguments, "--strict"]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert evaluate.main([*arguments, "--details", str(tmp_path / "gone" / "details.json")]) == 2
    assert "--details" in capsys.readouterr().err
    assert evaluate.main([*arguments[:-1], str(tmp_path / "gone.json")]) == 2
    assert "gone.json cannot be read" in capsys.readouterr().err


@pytest.mark.slow
def test_scoring_from_files_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    arguments = write_files(tmp_path, perfect())
    check = (
        "import sys; from commands import evaluate; code = evaluate.main(sys.argv[1:]); "
        "sys.exit(code or bool({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check, *arguments], cwd=ROOT, timeout=600).returncode == 0
