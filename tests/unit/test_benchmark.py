from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from actors.measuring.answerer import Asked, Reply
from actors.measuring.benchmark import NOTHING_SCORED, Asking, Benchmark, measure
from data.errors import DataError
from data.rollout import SamplingSettings
from data.sample import CAMERAS
from evaluation.metrics.predictions import PredictionsFile
from evaluation.metrics.result import SuiteResult
from evaluation.pages.suite_report import write_suite_report
from evaluation.suites.record import Spread, combined_bars, combined_figures, combined_tables, read_record
from evaluation.suites.registry import suites_of
from evaluation.suites.suite import Bars, Scored, Table
from rewards.judge import Judgement, JudgeRequest
from tests.drawn import six_cameras, written
from tests.suite_cases import CASES

SAMPLING = SamplingSettings(0.2, 16, seed=3)


def samples(folder: Path, count: int = 3) -> Path:
    """A JSONL of yes/no questions, all answered by yes."""
    six_cameras(folder, "one")
    images = {camera: f"{camera}/one.jpg" for camera in ("CAM_FRONT", "CAM_BACK")}
    lines = [
        {"id": f"q{n}", "scene_id": "s", "frame_id": f"f{n}", "task": "planning", "kind": "yes_no",
         "question": f"Is lane {n} free?", "answer": "Yes.", "images": images}
        for n in range(count)
    ]  # fmt: skip
    path = folder / "samples.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


class Says:
    """Answers by question and repeat, and remembers what it was asked."""

    def __init__(self, say: Callable[[str, int], str | None], stop_after: int | None = None) -> None:
        self.say, self.asked, self.stop_after = say, list[tuple[str, int]](), stop_after

    async def answer(
        self, asked: Sequence[Asked], sampling: SamplingSettings, finished: Callable[[Reply], None]
    ) -> None:
        for question, repeat in asked:
            if self.stop_after is not None and len(self.asked) == self.stop_after:
                raise ConnectionError("the engine is gone")
            self.asked.append((question.key, repeat))
            text = self.say(question.key, repeat)
            failure = "http_400" if text is None else None
            finished(Reply(question.key, repeat, text or "", "stop", 2, 10, 0.1, failure))

    async def stop(self) -> None:
        pass


def loaded(answers: Path, limit: int | None = None) -> Benchmark:
    suite, options = suites_of({"drivelm_hard": {"answers": answers, "limit": limit}})["drivelm_hard"]
    return Benchmark.load("drivelm_hard", suite, options, 0, answers.parent)


def benchmark(folder: Path, limit: int | None = None) -> Benchmark:
    return loaded(samples(folder), limit)


def asking(repeats: int = 2) -> Asking:
    return Asking("some/model", SAMPLING, repeats, None, {"weights": "first"})


async def test_figures_are_the_mean_of_the_repeats_with_their_range(tmp_path: Path) -> None:
    answerer = Says(lambda key, repeat: "Yes." if repeat == 0 or key == "q0" else "No.")
    await measure(benchmark(tmp_path), answerer, None, asking(), tmp_path / "out")
    record, answers = read_record(tmp_path / "out")
    planning = record.figures["planning"]
    assert planning is not None
    assert (planning.low, planning.high) == pytest.approx((100 / 3, 100.0))
    assert planning.mean == pytest.approx((100 + 100 / 3) / 2)
    assert [(one.sample_id, one.repeat, one.value) for one in answers][-2:] == [("q1", 1, 0.0), ("q2", 1, 0.0)]
    assert (record.cost.response_tokens, record.cost.image_tokens) == (2.0, 10.0)
    assert record.sampling["temperature"] == 0.2


async def test_a_measurement_that_was_stopped_goes_on_where_it_stood(tmp_path: Path) -> None:
    first = Says(lambda key, repeat: "Yes.", stop_after=4)
    with pytest.raises(ConnectionError):
        await measure(benchmark(tmp_path), first, None, asking(), tmp_path / "out")
    with (tmp_path / "out" / "replies.jsonl").open("a") as file:
        file.write('{"key": "q2", "rep')  # the write that the stop cut off
    second = Says(lambda key, repeat: "Yes.")
    await measure(benchmark(tmp_path), second, None, asking(), tmp_path / "out")
    assert second.asked == [("q1", 1), ("q2", 1)]
    assert len(read_record(tmp_path / "out")[1]) == 6


async def test_replies_of_other_weights_are_never_mixed_in(tmp_path: Path) -> None:
    await measure(benchmark(tmp_path), Says(lambda key, repeat: "Yes."), None, asking(), tmp_path / "out")
    other = Asking("some/model", SAMPLING, 2, None, {"weights": "trained on"})
    with pytest.raises(DataError, match="holds the replies of another measurement"):
        await measure(benchmark(tmp_path), Says(lambda key, repeat: "Yes."), None, other, tmp_path / "out")


async def test_replies_to_other_questions_of_the_same_names_are_never_mixed_in(tmp_path: Path) -> None:
    await measure(benchmark(tmp_path), Says(lambda key, repeat: "Yes."), None, asking(), tmp_path / "out")
    file = tmp_path / "other.jsonl"
    file.write_text((tmp_path / "samples.jsonl").read_text().replace("free", "closed"))
    other = loaded(file)
    with pytest.raises(DataError, match="holds the replies of another measurement"):
        await measure(other, Says(lambda key, repeat: "Yes."), None, asking(), tmp_path / "out")


async def test_replies_that_an_earlier_version_asked_for_are_taken(tmp_path: Path) -> None:
    """It also distinguished measurements by the folder that DriveAction's images are unpacked in."""
    suite, options = suites_of({"driveaction": CASES["driveaction"](tmp_path).options})["driveaction"]
    benchmark = Benchmark.load("driveaction", suite, options, 0, tmp_path)
    await measure(benchmark, Says(lambda *_: "B"), None, asking(1), tmp_path / "out")
    asked = tmp_path / "out" / "asked.json"
    about = json.loads(asked.read_text())
    assert about["options"] == {"answers": str(tmp_path / "a.parquet"), "mode": "None", "language": "en"}
    written(asked, about | {"options": about["options"] | {"image_root": "None"}})
    again = Says(lambda *_: "B")
    await measure(benchmark, again, None, asking(1), tmp_path / "out")
    assert again.asked == []


async def test_more_questions_of_the_same_files_are_asked_beside_those_answered_before(tmp_path: Path) -> None:
    await measure(benchmark(tmp_path, limit=1), Says(lambda *_: "Yes."), None, asking(1), tmp_path / "out")
    more = Says(lambda *_: "Yes.")
    record = await measure(benchmark(tmp_path), more, None, asking(1), tmp_path / "out")
    assert (len(more.asked), record.questions) == (2, 3)


async def test_a_question_without_a_reply_is_counted_and_asked_again(tmp_path: Path) -> None:
    record = await measure(
        benchmark(tmp_path), Says(lambda key, _: None if key == "q1" else "Yes."), None, asking(1), tmp_path / "out"
    )
    assert record.faults == {"missing_prediction": 1, "no_reply_http_400": 1}
    again = Says(lambda key, _: "Yes.")
    record = await measure(benchmark(tmp_path), again, None, asking(1), tmp_path / "out")
    assert (again.asked, record.faults) == ([("q1", 0)], {})


async def test_nothing_answered_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"drivelm_hard.*'http_400': 3"):
        await measure(benchmark(tmp_path), Says(lambda key, _: None), None, asking(1), tmp_path / "out")


async def test_a_judge_decides_where_there_is_one(tmp_path: Path) -> None:
    class Sixty:
        async def judge(self, request: JudgeRequest) -> Judgement:
            await asyncio.sleep(0)
            return Judgement(60.0, {"correctness": 3}, "")

    record = await measure(benchmark(tmp_path), Says(lambda *_: "No."), Sixty(), asking(1), tmp_path / "out")
    mean, accuracy = record.figures["mean"], record.figures["accuracy/planning"]
    assert (mean and mean.mean, accuracy and accuracy.mean) == (60.0, 0.0)


def nameless(folder: Path) -> Path:
    """The challenge's own file for its contestants: no answer, no tag, and one question that is empty."""
    six_cameras(folder / "samples", "one")
    paths = {camera: f"../nuscenes/samples/{camera}/one.jpg" for camera in CAMERAS}
    asked = {"perception": ["What is ahead?", ""], "behavior": ["What next? options: A. Stop. B. Go."]}
    qa = {task: [{"Q": text, "A": ""} for text in texts] for task, texts in asked.items()}
    return written(folder / "val.json", {"s": {"key_frames": {"f": {"QA": qa, "image_paths": paths}}}})


async def test_questions_without_answers_are_asked_and_handed_in(tmp_path: Path) -> None:
    answers = nameless(tmp_path)
    suite, options = suites_of({"drivelm": {"answers": answers, "image_root": tmp_path}})["drivelm"]
    loaded = Benchmark.load("drivelm", suite, options, 0, tmp_path)
    record = await measure(loaded, Says(lambda *_: "<think>Hm.</think>A van."), None, asking(2), tmp_path / "out")
    for number in range(2):
        handed_in = json.loads((tmp_path / "out" / f"predictions-{number}.json").read_text())
        assert handed_in["results"] == [
            {"id": "s_f_0", "question": "What is ahead?", "answer": "A van."},
            {"id": "s_f_2", "question": "What next? options: A. Stop. B. Go.", "answer": "A van."},
        ]
    assert (record.figures, record.faults) == ({}, {"not_asked_empty_question": 1, "empty_answer": 4})
    assert record.notes == (NOTHING_SCORED,)
    assert NOTHING_SCORED in write_suite_report(tmp_path / "out").read_text()
    with pytest.raises(DataError, match=r"val\.json holds questions without a true answer"):
        suite(options).score(PredictionsFile(predictions=tmp_path / "out" / "predictions-0.json").read())


async def test_what_is_handed_in_to_the_challenge_scores_as_the_model_did(tmp_path: Path) -> None:
    answers = nameless(tmp_path)
    answers.write_text(answers.read_text().replace('"A": ""', '"A": "A van.", "tag": [0]'))
    suite, options = suites_of({"drivelm": {"answers": answers, "image_root": tmp_path}})["drivelm"]
    loaded = Benchmark.load("drivelm", suite, options, 0, tmp_path)
    record = await measure(loaded, Says(lambda *_: "<think>Hm.</think>A van."), None, asking(1), tmp_path / "out")
    accuracy = record.figures["accuracy"]
    assert accuracy is not None
    said = PredictionsFile(predictions=tmp_path / "out" / "predictions-0.json").read()
    assert suite(options).score(said).figures["accuracy"] == accuracy.mean == 1.0


async def test_questions_of_samples_without_answers_are_asked_and_not_scored(tmp_path: Path) -> None:
    file = samples(tmp_path)
    first, *others = file.read_text().splitlines()
    file.write_text("\n".join([first, *(line.replace('"Yes."', "null") for line in others)]))
    record = await measure(loaded(file), Says(lambda *_: "Yes."), None, asking(1), tmp_path / "out")
    planning = record.figures["planning"]
    assert (record.questions, planning and planning.mean) == (3, 100.0)
    assert record.faults == {"empty_answer": 2}


def test_a_limit_draws_whole_frames_once_from_the_seed(tmp_path: Path) -> None:
    drawn = [[q.key for q in benchmark(tmp_path, limit=2).questions] for _ in range(2)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) == 2
    file = tmp_path / "one_frame.jsonl"
    file.write_text((tmp_path / "samples.jsonl").read_text().replace('"f1"', '"f0"').replace('"f2"', '"f0"'))
    one_frame = loaded(file, limit=2)
    assert [q.key for q in one_frame.questions] == ["q0", "q1", "q2"]


def test_a_row_that_only_some_repeats_have_is_not_taken_for_another() -> None:
    """Bars and tables of DriveBench: a setting whose judgements all failed in one repeat has no row there."""

    def scored(**rows: float) -> Scored:
        table = Table("t", ("score",), tuple((name, (value,)) for name, value in rows.items()))
        bars = Bars("b", "%", tuple(rows), (("score", tuple(rows.values())),))
        return Scored(SuiteResult(1, {}), (), {}, dict(rows), tables=(table,), bars=(bars,))

    repeats = [scored(clean=10.0, Rain=20.0), scored(clean=30.0, Fog=80.0, Rain=40.0)]
    (table,), (bars,) = combined_tables(repeats), combined_bars(repeats)
    assert dict(table.rows) == {"clean": (20.0,), "Rain": (30.0,), "Fog": (80.0,)}
    assert dict(zip(bars.groups, bars.series[0][1], strict=True)) == {"clean": 20.0, "Rain": 30.0, "Fog": 80.0}
    assert combined_figures(repeats)["Fog"] == Spread(mean=80.0, low=80.0, high=80.0, repeats=(None, 80.0))
