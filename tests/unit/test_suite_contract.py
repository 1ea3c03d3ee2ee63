"""What every benchmark keeps, the built-in ones and a user's by import path: the contract of `Suite`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from commands import evaluate
from data.faults import Faults
from data.sample import TASKS
from evaluation.metrics.predictions import NO_PREDICTIONS, Predictions, PredictionsFile
from evaluation.suites.record import read_record
from evaluation.suites.registry import SUITES, suite_class, suites_of
from evaluation.suites.suite import Suite, SuiteOptions
from extension import ExtensionError, add_flags, from_flags, validated
from tests.drawn import written
from tests.suite_cases import CASES, OWN, Case

ROOT = Path(__file__).parents[2]
every_suite = pytest.mark.parametrize("name", CASES)
every_asking_suite = pytest.mark.parametrize("name", [name for name in CASES if name != "bench2drive"])


def options_of(name: str, given: dict[str, Any]) -> SuiteOptions:
    return validated(suite_class(name).Options, given, name)


def as_flags(given: dict[str, Any]) -> list[str]:
    return [part for key, value in given.items() for part in (f"--{key.replace('_', '-')}", str(value))]


@pytest.fixture
def case(name: str, tmp_path: Path) -> Case:
    return CASES[name](tmp_path)


def test_every_built_in_suite_has_a_case() -> None:
    assert set(CASES) == {*SUITES, OWN}


@every_suite
def test_every_option_is_documented(name: str) -> None:
    fields = suite_class(name).Options.model_fields
    assert [field for field, info in fields.items() if not info.description] == []


@every_suite
def test_flags_and_a_recipes_mapping_give_the_same_options(name: str, case: Case) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, suite_class(name).Options)
    flags = from_flags(suite_class(name).Options, parser.parse_args(as_flags(case.options)))
    assert flags == options_of(name, {key: str(value) for key, value in case.options.items()})


@every_suite
def test_what_tells_measurements_apart_is_the_options_about_questions(name: str, case: Case) -> None:
    about = options_of(name, case.options).about_questions()
    backwards = dict(reversed(case.options.items()))
    elsewhere = {
        field: {bool: True, int: 3}.get(type(info.default), Path("elsewhere"))
        for field, info in suite_class(name).Options.model_fields.items()
        if info.exclude and field != "limit"
    }
    assert options_of(name, backwards).about_questions() == about
    assert options_of(name, case.options | elsewhere | {"limit": 3}).about_questions() == about
    assert options_of(name, case.options | case.other).about_questions() != about


@every_asking_suite
def test_questions_have_keys_of_their_own_and_images_that_are_there(name: str, case: Case, tmp_path: Path) -> None:
    faults = Faults()
    questions = suite_class(name)(options_of(name, case.options)).questions(faults, tmp_path / "shared")
    assert faults.as_dict() == {}
    keys = [question.key for question in questions]
    assert len(set(keys)) == len(keys) > 0
    assert all(Path(path).is_file() for one in questions for path in one.sample.images.values())
    known = {id_ for one in questions for id_ in (one.key, *one.file_ids)}
    assert set(case.perfect) <= known


@every_suite
def test_perfect_predictions_have_the_best_value(name: str, case: Case, tmp_path: Path) -> None:
    suite = suite_class(name)(options_of(name, case.options | {"strict": True}))
    file = PredictionsFile(predictions=written(tmp_path / "said.json", case.perfect), strict=True)
    scored = suite.score(suite.predictions(file) if suite.asks else NO_PREDICTIONS)
    assert {figure: scored.figures[figure] for figure in case.best} == pytest.approx(case.best)
    assert scored.faults == {}
    absent = set(suite.headline) - set(scored.figures)
    # Nobody judged, and a case need not have questions of every task.
    assert {figure for figure in absent if figure not in TASKS and not figure.startswith("judge/")} == set()


@every_asking_suite
def test_a_judge_is_asked_by_the_keys_of_the_predictions(name: str, case: Case) -> None:
    suite = suite_class(name)(options_of(name, case.options))
    asked = suite.judge_requests(Predictions(case.perfect, {}, by_model=True))
    assert bool(asked) == suite.judged
    assert {key.removeprefix("clean/") for key in asked} <= {key.removeprefix("clean/") for key in case.perfect}


@every_suite
def test_a_misspelt_option_is_one_sentence_with_the_nearest(
    name: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExtensionError, match=rf"^unknown key {name}\.strikt \(did you mean strict\?\)$"):
        options_of(name, case.options | {"strikt": True})
    assert evaluate.main([name, *as_flags(case.options), "--strikt"]) == 2
    assert capsys.readouterr().err == "error: unknown option --strikt (did you mean --strict?)\n"


@pytest.mark.slow
def test_no_suite_brings_torch_or_ray_and_a_file_brings_no_other_suite(tmp_path: Path) -> None:
    said = written(tmp_path / "said.json", CASES[OWN](tmp_path).perfect)
    flags = ["--answers", str(tmp_path / "signs.json"), "--predictions", str(said)]
    check = (
        "import json, sys; from commands.evaluate import main; from evaluation.suites.registry import *; "
        "assert main(json.loads(sys.argv[1])) == 0; "
        "assert not {path.partition(':')[0] for path in SUITES.values()} & set(sys.modules); "
        "[suite_class(name) for name in SUITES]; "
        "sys.exit(bool({'torch', 'ray', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", check, json.dumps([OWN, *flags])], cwd=ROOT, timeout=600)
    assert done.returncode == 0


# --- a user's own -----------------------------------------------------------------------------------------------------


def test_a_benchmark_of_ones_own_is_scored_from_files_and_leaves_folder_and_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    CASES[OWN](tmp_path)
    said = written(tmp_path / "said.json", {"a.jpg": "STOP", "b.jpg": "30", "c.jpg": "?"})
    command = [OWN, *as_flags({"answers": tmp_path / "signs.json", "predictions": said})]
    assert evaluate.main(command) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (printed["read"], printed["faults"]) == (50.0, {"unknown_id": 1})
    out = tmp_path / "out"
    assert evaluate.main([*command, *as_flags({"image_root": tmp_path, "out": out})]) == 0
    record, answers = read_record(out)
    assert (record.suite, record.sources["answers"]) == (OWN, str(tmp_path / "signs.json"))
    assert [one.value for one in answers] == [100.0, 0.0]
    assert "Signs: share of them that are read" in (out / "report.html").read_text()


def test_a_recipe_takes_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    suite, options = suites_of({OWN: {"answers": "signs.json", "limit": 5}})[OWN]
    assert (suite.title, options.limit) == ("Signs: share of them that are read", 5)


class NoScore:
    """A suite that forgot a method."""

    Options = SuiteOptions
    title, headline, judged, asks = "half a suite", ("x",), False, True

    def questions(self, faults: Faults, folder: Path) -> tuple[()]:
        return ()

    def predictions(self, file: PredictionsFile) -> Predictions:
        return Predictions({}, {})

    def handed_in(self, predictions: Predictions, questions: Any) -> dict[str, str]:
        return predictions.texts

    def judge_requests(self, predictions: Predictions) -> dict[str, Any]:
        return {}


class NoTitle(Suite):
    """A suite that inherits what most share, and forgot what it must have itself."""

    Options = SuiteOptions

    def score(self, predictions: Predictions, judgements: Any = None) -> Any: ...


class PlainOptions(NoScore):
    """A suite whose options do not say which of them are about questions."""

    Options = BaseModel  # type: ignore[assignment]

    def score(self, predictions: Predictions, judgements: Any = None) -> None: ...


class Clashing(PlainOptions):
    """A suite with an option that has the name of a flag of the command."""

    class Options(SuiteOptions):
        """The options."""

        seed: int = 0
        """Taken."""


HERE = "tests.unit.test_suite_contract"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        (f"{HERE}:NoScore", "NoScore lacks score of Suite (evaluation/suites/suite.py)"),
        (f"{HERE}:NoTitle", "NoTitle lacks title, headline, questions of Suite (evaluation/suites/suite.py)"),
        (f"{HERE}:PlainOptions", "its Options are no subclass of evaluation.suites.suite.SuiteOptions"),
        (f"{HERE}:Clashing", "its option seed is a flag of evaluate.py: call it otherwise"),
        ("docs.examples.signs:Sings", "has no class 'Sings' (did you mean Signs?)"),
        ("nowhere:Signs", "cannot import nowhere"),
    ],
)
def test_a_class_that_is_no_suite_is_one_sentence(name: str, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate.main([name, "--predictions", "x"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: SUITE={name}")
    assert sentence in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"drivelm_hrad": {}}, r"evaluation\.suites=drivelm_hrad is unknown \(did you mean drivelm_hard\?"),
        ({"kitti": {}}, r"evaluation\.suites=kitti is unknown \(known: drivelm, drivebench, "),
        ({"drivelm_hard": {}}, r"evaluation\.suites\.drivelm_hard\.answers is missing"),
        ({"rendered": {"limit": 0}}, r"evaluation\.suites\.rendered\.limit: Input should be greater than"),
        ({"rendered": {"cache": "x"}}, r"evaluation\.suites\.rendered\.cache is no option of a benchmark any more"),
        ({"drivelm": {"id_key": "x"}}, r"evaluation\.suites\.drivelm\.id_key is about a predictions file"),
        ({"bench2drive": {"result": "x"}}, r"evaluation\.suites\.bench2drive asks no model"),
    ],
)
def test_what_a_recipe_cannot_have_is_one_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ExtensionError, match=sentence):
        suites_of(given)
