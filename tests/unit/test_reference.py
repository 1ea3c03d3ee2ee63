"""docs/reference.md is what the settings say, and the example folder is whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import score_answer
from commands.reference import PAGE, main, reference
from prepare_data import main as prepare
from recipe import Recipe, load_recipe

ROOT = Path(__file__).parents[2]


def test_the_reference_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check"]) == 0, capsys.readouterr().out
    assert PAGE.is_file()


def test_every_key_is_there_with_its_meaning() -> None:
    page = reference()
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \| (.*) \| (.*) \|$", page, re.MULTILINE)
    keys = {key for key, *_ in rows}
    for part, field in Recipe.model_fields.items():
        model = field.annotation
        names = getattr(model, "model_fields", {})
        assert {f"{part}.{name}" for name in names} <= keys
    assert [key for key, kind, default, meaning in rows if not (kind and default and meaning)] == []


@pytest.mark.slow
def test_the_example_of_own_data_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = load_recipe(["docs/examples/own/recipe.yaml"])
    assert recipe.run.tags == ("example",)
    assert prepare(["check", "docs/examples/own/samples.jsonl"]) == 0
    assert '"lights": 12' in capsys.readouterr().out
    for answer, worth in (("Yes.", 100), ("Yes, the light is green.", 60), ("No.", 0)):
        arguments = [
            "docs/examples/own/recipe.yaml",
            "--sample",
            "light-00",
            "--answer",
            answer,
            f"run.root={tmp_path}",
        ]
        assert score_answer.main(arguments) == 0
        assert f"{worth}" in capsys.readouterr().out
