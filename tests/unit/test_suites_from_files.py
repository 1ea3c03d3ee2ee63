from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from commands import evaluate
from tests.drawn import written

ROOT = Path(__file__).parents[2]

Files = Callable[[Path], list[str]]


def predictions(folder: Path, answers: dict[str, str]) -> list[str]:
    return ["--predictions", str(written(folder / "predictions.json", answers))]


def bdd_oia(folder: Path) -> list[str]:
    """Of two scored frames one is named in full; the other stops, but is said to go left. A third confused people."""
    categories = {"a.jpg": [1, 0, 0, 0, 0], "b.jpg": [0, 1, 0, 0, 0], "c.jpg": [0, 1, 0, 0, 1]}
    images = [{"id": number, "file_name": name} for number, name in enumerate(categories)]
    annotations = [{"category": bits} for bits in categories.values()]
    reasons = [{"file_name": name, "reason": [int(bit == 2) for bit in range(21)]} for name in ("a.jpg", "c.jpg")]
    reasons.append({"file_name": "b.jpg", "reason": [0] * 21})  # the benchmark counts frames without a reason
    said = "Action: Move forward; Reason: Traffic light is green"
    found = {"a.jpg": said, "b.jpg": "Action: Turn left; Reason: Traffic light is green", "c.jpg": said}
    first = written(folder / "x_actions.json", {"images": images, "annotations": annotations})
    second = written(folder / "x_reasons.json", reasons)
    return ["bdd_oia", "--actions", str(first), "--reasons", str(second), *predictions(folder, found)]


def drivelmm_o1(folder: Path) -> list[str]:
    """Three multiple-choice questions, one right, one wrong, one that names no letter; and one open question."""
    question = "What is safest?\nA) Slow down.\nB) Speed up."
    answers = [
        {"idx": f"s_f_{number}", "question": question, "steps": "1. Look.", "final_answer": final}
        for number, final in ((2, "A) Slow down."), (3, "B) Speed up."), (1, "A car."), (5, "A) Slow down."))
    ]
    found = {"s_f_2": "Final answer: A", "s_f_3": "Final answer: A", "s_f_1": "A car.", "s_f_5": "Perhaps."}
    return ["drivelmm_o1", "--answers", str(written(folder / "test.json", answers)), *predictions(folder, found)]


def driveaction(folder: Path) -> list[str]:
    """Two action questions, one right; a vision question that is right. The rows have no images."""
    options = {"A": "Stop", "B": "Go"}
    rows = [
        {"question_slice_id": "s", "qa_l0": level, "content_en": json.dumps(content)}
        for level, content in (
            ("Action", {"question": "What now?", "options": options, "answer": "B"}),
            ("Vision", {"question": "Is it red?", "options": None, "answer": "False"}),
            ("Action", {"question": "Does it stop?", "options": None, "answer": "True"}),
        )
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet")
    found = {"s_0": "B", "s_1": "False", "s_2": "False"}
    return ["driveaction", "--answers", str(folder / "a.parquet"), "--mode", "A", *predictions(folder, found)]


def open_loop(folder: Path) -> list[str]:
    """2 m ahead a step; the plan is 1, 2, ... 6 m beside it."""
    entry = {"scene_token": "s", "token": "f", "sdc_planning": [[[0, 2 * step, 0] for step in range(1, 7)]]}
    plan = json.dumps([[step, 2 * step] for step in range(1, 7)])
    return ["open_loop", "--answers", str(written(folder / "way.json", [entry])), *predictions(folder, {"f": plan})]


def route(id_: str, status: str, points: float) -> dict[str, Any]:
    scores = {"score_route": points, "score_composed": points}
    return {"route_id": id_, "save_name": f"run_{id_}", "status": status, "infractions": {}, "scores": scores}


def bench2drive(folder: Path) -> list[str]:
    """Two of four routes: one perfect, one half done; the first with 20 calm steps of motion."""
    records = [route("a", "Perfect", 100.0), route("b", "Failed", 50.0)]
    step = {"acceleration": [0, 0, 0], "angular_velocity": [0, 0, 0], "forward_vector": [1, 0, 0]}
    (folder / "motions" / "run_a").mkdir(parents=True)
    motion = {str(number): step | {"right_vector": [0, 1, 0]} for number in range(20)}
    written(folder / "motions" / "run_a" / "metric_info.json", motion)
    file = written(folder / "merged.json", {"_checkpoint": {"records": records}})
    return ["bench2drive", "--result", str(file), "--routes", "4", "--motions", str(folder / "motions")]


SUITES: list[Files] = [bdd_oia, drivelmm_o1, driveaction, open_loop, bench2drive]


@pytest.fixture
def scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Files], tuple[str, dict[str, Any]]]:
    """What a suite prints above its last line, and that line read."""

    def run(files: Files) -> tuple[str, dict[str, Any]]:
        assert evaluate.main(files(tmp_path)) == 0
        table, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
        return table, json.loads(last)

    return run


def test_bdd_oia_scores_actions_and_reasons_and_leaves_confused_frames_out(scored: Any) -> None:
    table, figures = scored(bdd_oia)
    assert (figures["scored"], figures["confused_label"], figures["faults"]) == (2, 1, {})
    actions = figures["actions"]
    assert actions["f1_all"] == pytest.approx(50)  # 1 and 0
    assert actions["mf1"] == pytest.approx(25)  # forward 1, stop 0, left 0, right 0
    assert actions["accuracy"] == pytest.approx(75)  # 6 of 8 bits
    assert actions["exact_match"] == pytest.approx(50)
    reasons = figures["reasons"]
    assert (reasons["f1_all"], reasons["exact_match"]) == (50, 50)
    assert reasons["mf1"] == pytest.approx(100 * 2 / 3 / 21)  # the green light: one hit, one too many
    assert "actions mF1" in table


def test_drivelmm_o1_scores_choices_and_says_that_nobody_judged(scored: Any) -> None:
    table, figures = scored(drivelmm_o1)
    assert (figures["scored"], figures["choices"], figures["unreadable"], figures["judged"]) == (4, 3, 1, 0)
    assert figures["mcq_accuracy"] == pytest.approx(100 / 3)
    assert figures["overall_score"] is None
    assert table.count("no judge") == 13  # twelve marks and their overall score


def test_driveaction_scores_each_level_without_images(scored: Any) -> None:
    table, figures = scored(driveaction)
    assert figures["accuracy"] == pytest.approx(200 / 3)
    assert {name: level["accuracy"] for name, level in figures["levels"].items()} == {"Action": 50.0, "Vision": 100.0}
    assert figures["mode"] == "A"
    assert "Action (2)" in table


def test_driveaction_scores_every_level_that_the_columns_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.dumps({"question": "Does it stop?", "options": None, "answer": "True"})
    named = [
        ("Action", "Navigation", "Lane change", "True"),
        ("Action", "Navigation", None, "False"),
        ("Action", "Efficiency", "Lane change", "True"),
        ("Vision", None, "Light", "True"),  # what stands below an empty level has no place
        (None, "Navigation", None, "False"),  # no root: recognised by the wording
    ]
    rows = [
        {"question_slice_id": "s", "content_en": content, "qa_l2": third, "qa_l1": second, "qa_l0": first}
        for first, second, third, _ in named
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    found = {f"s_{number}": said for number, (*_, said) in enumerate(named)}
    arguments = ["driveaction", "--answers", str(tmp_path / "a.parquet"), *predictions(tmp_path, found)]
    assert evaluate.main(arguments) == 0
    table, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    levels = {name: (level["right"], level["questions"]) for name, level in json.loads(last)["levels"].items()}
    assert levels == {
        "Action": (2, 4),
        "Action/Efficiency": (1, 1),
        "Action/Efficiency/Lane change": (1, 1),
        "Action/Navigation": (1, 2),
        "Action/Navigation/Lane change": (1, 1),
        "Vision": (1, 1),
    }
    assert "Action/Navigation (2)" in table


def test_open_loop_scores_displacement_under_both_protocols_and_no_collisions(scored: Any) -> None:
    table, figures = scored(open_loop)
    assert figures["uniad"]["l2"] == pytest.approx([2, 4, 6])
    assert figures["vad_stp3"]["l2"] == pytest.approx([1.5, 2.5, 3.5])
    assert (figures["uniad"]["collision"], figures["vad_stp3"]["collision_mean"]) == (None, None)
    assert table.count("no boxes") == 2


def test_bench2drive_divides_by_all_routes_and_reads_motion_by_the_name_it_was_saved_under(scored: Any) -> None:
    table, figures = scored(bench2drive)
    assert (figures["driving_score"], figures["success_rate"]) == (37.5, 25.0)  # 150 / 4, 1 of 4
    assert (figures["comfort"], figures["comfort_mended"]) == (100.0, 100.0)
    assert figures["faults"] == {"missing_route": 2, "no_motion": 1}
    assert "driving score" in table


@pytest.mark.parametrize("content", ["[]", "{broken", '{"0": {"acceleration": [NaN, 0, 0]}}', "{}"])
def test_a_faulty_file_of_motion_is_named_and_the_other_routes_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    arguments = bench2drive(tmp_path)
    faulty = tmp_path / "motions" / "run_b" / "metric_info.json"
    faulty.parent.mkdir()
    faulty.write_text(content)
    assert evaluate.main(arguments) == 0
    table, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    assert json.loads(last)["faults"]["no_motion"] == 1
    assert json.loads(last)["comfort"] == 100.0
    assert str(faulty) in table
    assert evaluate.main([*arguments, "--strict"]) == 2
    assert str(faulty) in capsys.readouterr().err


XML = '<routes><route id="2201" town="Town12"/><route id="2202"/><route id="b"/></routes>'


@pytest.mark.parametrize("listed", [XML, "2201\n2202\n\nb\n"])
def test_bench2drive_names_the_missing_of_a_list_of_routes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: str
) -> None:
    records = [route("RouteScenario_2201_rep0", "Perfect", 100.0), route("b", "Failed", 50.0)]
    file = written(tmp_path / "merged.json", {"_checkpoint": {"records": records}})
    (tmp_path / "routes").write_text(listed)
    arguments = ["bench2drive", "--result", str(file), "--routes-file", str(tmp_path / "routes")]
    assert evaluate.main(arguments) == 0
    table, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    figures = json.loads(last)
    assert (figures["routes"], figures["driving_score"], figures["faults"]) == (3, 50.0, {"missing_route": 1})
    assert "fault: 2202" in table
    assert evaluate.main([*arguments, "--strict"]) == 2
    assert "1 missing_route; first: 2202" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ("<routes><route", "is neither XML nor text with one route id a line"),
        ("<routes><route town='Town12'/></routes>", "holds a route without an id"),
        ("\n", "holds no route"),
        ("a\nb\na\n", "lists route a more than once"),
    ],
)
def test_a_faulty_list_of_routes_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], listed: str, message: str
) -> None:
    file = written(tmp_path / "merged.json", {"_checkpoint": {"records": [route("a", "Perfect", 100.0)]}})
    (tmp_path / "routes").write_text(listed)
    assert evaluate.main(["bench2drive", "--result", str(file), "--routes-file", str(tmp_path / "routes")]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("files", SUITES)
def test_a_missing_file_is_one_sentence_and_code_2(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = files(tmp_path)
    arguments[2] = str(tmp_path / "gone")
    assert evaluate.main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ")
    assert "gone" in printed
    assert printed.count("\n") == 1


def test_samples_are_scored_without_their_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = {"scene_id": "s", "task": "planning", "kind": "yes_no", "question": "Is it free?", "answer": "Yes."}
    line = {"id": "q", "images": {"CAM_FRONT": "nowhere/a.jpg"}} | said
    file = written(tmp_path / "own.jsonl", line)
    assert evaluate.main(["drivelm_hard", "--answers", str(file), *predictions(tmp_path, {"q": "Yes."})]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["scored"], figures["faults"]) == (1, {})


@pytest.mark.parametrize("files", [bdd_oia, drivelmm_o1, driveaction, open_loop])
def test_an_unknown_id_is_counted_and_strict_makes_it_fatal(
    files: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = files(tmp_path)
    assert evaluate.main([*arguments, "--strict"]) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "predictions.json").read_text())
    written(tmp_path / "predictions.json", found | {"nobody": "A"})
    assert evaluate.main(arguments) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["faults"] == {"unknown_id": 1}
    assert evaluate.main([*arguments, "--strict"]) == 2
    assert "first: nobody is no question of the answer file" in capsys.readouterr().err


def test_half_a_character_in_an_id_is_printed_as_json_writes_it(
    tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    arguments = bdd_oia(tmp_path)
    found = json.loads((tmp_path / "predictions.json").read_text())
    written(tmp_path / "predictions.json", found | {"\ud800": "Stop."})
    assert evaluate.main(arguments) == 0
    assert rb"fault: \ud800 is no question" in capsysbinary.readouterr().out


def drivelm_hard(folder: Path) -> list[str]:
    """Two questions, one right."""
    sample = {"scene_id": "s", "task": "planning", "kind": "yes_no", "question": "Is it safe?", "answer": "Yes."}
    lines = [json.dumps(sample | {"id": id_}) for id_ in ("a", "b")]
    (folder / "samples.jsonl").write_text("\n".join(lines))
    found = predictions(folder, {"a": "Yes.", "b": "No."})
    return ["drivelm_hard", "--answers", str(folder / "samples.jsonl"), *found]


def drivebench(folder: Path) -> list[str]:
    """Two questions, one right, in fog."""
    entry = {"scene_token": "s", "frame_token": "f", "question_type": "planning", "question": "Is it safe?",
             "answer": "Yes.", "tag": [0], "image_path": {}}  # fmt: skip
    found = predictions(folder, {"Fog/s_f_0": "Yes.", "Fog/s_f_1": "No."})
    return ["drivebench", "--answers", str(written(folder / "test.json", [entry, entry])), *found]


def without(record: dict[str, Any], member: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key != member}


def damage_bdd_oia(folder: Path) -> None:
    reasons = json.loads((folder / "x_reasons.json").read_text())
    written(folder / "x_reasons.json", [entry for entry in reasons if entry["file_name"] != "b.jpg"])


def damage_drivelmm_o1(folder: Path) -> None:
    first, *others = json.loads((folder / "test.json").read_text())
    written(folder / "test.json", [without(first, "final_answer"), *others])


def damage_driveaction(folder: Path) -> None:
    first, *others = pq.read_table(folder / "a.parquet").to_pylist()
    content = json.loads(first["content_en"]) | {"answer": "Z"}
    pq.write_table(pa.Table.from_pylist([first | {"content_en": json.dumps(content)}, *others]), folder / "a.parquet")


def damage_drivelm_hard(folder: Path) -> None:
    first, second = (folder / "samples.jsonl").read_text().splitlines()
    (folder / "samples.jsonl").write_text("\n".join([first, second.replace("Yes.", "")]))


def damage_drivebench(folder: Path) -> None:
    first, second = json.loads((folder / "test.json").read_text())
    written(folder / "test.json", [first, second | {"answer": ""}])


@pytest.mark.parametrize(
    ("files", "damage", "reason"),
    [
        (bdd_oia, damage_bdd_oia, "unpaired_entry"),
        (drivelmm_o1, damage_drivelmm_o1, "empty_answer"),
        (driveaction, damage_driveaction, "answer_not_an_option"),
        (drivelm_hard, damage_drivelm_hard, "empty_answer"),
        (drivebench, damage_drivebench, "empty_answer"),
    ],
)
def test_a_prediction_for_a_question_that_was_left_out_is_no_unknown_one(
    files: Files, damage: Callable[[Path], None], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = files(tmp_path)
    assert evaluate.main(arguments) == 0
    before = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert before["faults"] == {}
    damage(tmp_path)
    assert evaluate.main(arguments) == 0
    after = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (after["faults"], after["scored"]) == ({reason: 1}, before["scored"] - 1)


def test_a_plan_for_a_frame_whose_boxes_cannot_be_read_is_no_unknown_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = open_loop(tmp_path)
    (entry,) = json.loads((tmp_path / "way.json").read_text())
    entries = [entry | {"future_boxes": [[]] * 6}, entry | {"token": "g", "future_boxes": [[]]}]
    written(tmp_path / "way.json", entries)
    plan = json.loads((tmp_path / "predictions.json").read_text())["f"]
    written(tmp_path / "predictions.json", {"f": plan, "g": plan, "nobody": plan})
    assert evaluate.main(arguments) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (found["scored"], found["faults"]) == (1, {"malformed_entry": 1, "unknown_id": 1})


@pytest.mark.slow
def test_scoring_loads_neither_torch_nor_ray(tmp_path: Path) -> None:
    for files in SUITES:
        (tmp_path / files.__name__).mkdir()
    every = [files(tmp_path / files.__name__) for files in SUITES]
    check = (
        "import json, sys; from commands.evaluate import main; codes = [main(one) for one in json.loads(sys.argv[1])]; "
        "sys.exit(any(codes) or bool({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", check, json.dumps(every)], cwd=ROOT, timeout=600).returncode == 0
