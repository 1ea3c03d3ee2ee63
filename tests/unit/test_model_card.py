"""The model card's results, and its snippet, which is executed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from actors.record.model_card import model_card, usage
from actors.record.provenance import CodeOrigin, DataOrigin, Provenance
from data.formats.rendered import Rendered
from data.sample import CAMERAS, DrivingSample
from policies.model import load_processor
from policies.prompt import PromptEncoder
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from recipe import load_recipe
from tests.unit.test_findings import about, measured

TINY = str(Path(__file__).parents[2] / "recipes" / "tiny.yaml")
QUESTION = "What should the ego vehicle do?"


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_policy(tmp_path_factory.mktemp("policy") / "model")


@pytest.mark.parametrize("views", ["six", "stitched"])
def test_the_snippet_answers_as_the_runs_own_prompt_does(
    policy: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    views: Any,
) -> None:
    images: dict[str, str] = {}
    for number, camera in enumerate(CAMERAS):
        Image.new("RGB", (80, 45), (40 * number, 90, 200)).save(tmp_path / f"{camera}.jpg")
        images[camera] = str(tmp_path / f"{camera}.jpg")
    settings = PolicySettings(model=str(policy), image_size=(32, 32), views=views)
    sample = DrivingSample("q", "s", "f", "planning", "open_ended", QUESTION, "", images)
    encoder = PromptEncoder(load_processor(policy, settings), settings)
    inputs = encoder.inputs(sample)
    model = AutoModelForImageTextToText.from_pretrained(policy, dtype=torch.float32)
    output = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    wanted = encoder.processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    snippet = re.fullmatch(r"```python\n(.*)\n```", usage(settings, 6), re.DOTALL)
    assert snippet is not None
    monkeypatch.chdir(tmp_path)
    exec(snippet[1].replace('folder = "."', f"folder = {str(policy)!r}"), {})
    assert capsys.readouterr().out.rstrip("\n") == wanted


def test_the_card_has_the_results_of_the_run() -> None:
    results = {name: measured(name, about(worth)) for name, worth in (("before", 50.0), ("after", 90.0))}
    card = model_card(load_recipe([TINY]), provenance_of(), results)
    assert re.search(r"\| Perception \| 20 \| 49\.\d \| 89\.\d \|", card)
    assert re.search(r"\| Mean of the tasks \| 80 \| 49\.\d \| 89\.\d \|", card)
    assert "(perception, prediction, planning, behavior)" in card
    assert "not measured" in model_card(load_recipe([TINY]), provenance_of())


def provenance_of() -> Provenance:
    made: Any = DataOrigin.model_construct
    data = made(source="rendered", samples=9, scenes=3, ground_truth_sha256="0" * 64, licence=Rendered.licence)
    made = CodeOrigin.model_construct
    code = made(commit=None, changed=None, untracked=(), source_sha256="1" * 64)
    made = Provenance.model_construct
    when = "2026-11-29T00:00:00+00:00"
    found: Provenance = made(data=data, code=code, python="3.11", packages={"torch": "2"}, started_at=when)
    return found


def test_a_system_prompt_is_part_of_the_snippet() -> None:
    recipe = load_recipe([TINY, "policy.system_prompt=You drive."])
    assert "You drive." in usage(recipe.policy, 8)
