"""What a model cannot be asked is found before anything starts: special tokens, images, lengths."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from actors.fitted import fitted_data, fitting_of
from actors.measuring.benchmark import Benchmark
from data.errors import DataError
from data.faults import Faults
from data.load import LoadedData
from data.sample import DrivingSample
from data.split import Split
from evaluation.suites.suite import Question
from policies.errors import PolicyError
from policies.fitting import Fitting, Limits
from policies.model import load_processor
from policies.prompt import PromptEncoder
from policies.prompt_lengths import PromptLengths
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from prepare_data import main
from recipe import Recipe, RecipeError, load_recipe
from tests.families import tiny_idefics3, tiny_internvl, tiny_mllama, tiny_qwen2_5_vl, tiny_qwen3_vl, tiny_smolvlm

IMAGE_TOKENS: dict[Callable[[Path], Path], str] = {
    build_tiny_policy: "<image>",
    tiny_qwen2_5_vl: "<|image_pad|>",
    tiny_qwen3_vl: "<|vision_start|>",
    tiny_idefics3: "<fake_token_around_image>",
    tiny_smolvlm: "<row_1_col_1>",
    tiny_internvl: "<IMG_CONTEXT>",
    tiny_mllama: "<|image|>",
}


@pytest.fixture(scope="module", params=IMAGE_TOKENS, ids=lambda build: build.__name__)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = request.param(tmp_path_factory.mktemp("family") / "model")
    return folder, IMAGE_TOKENS[request.param]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_policy(tmp_path_factory.mktemp("tiny") / "model")


def photo(folder: Path, size: tuple[int, int] = (64, 48)) -> str:
    path = folder / f"{size[0]}x{size[1]}.png"
    Image.new("RGB", size, "grey").save(path)
    return str(path)


def sample(images: dict[str, str], question: str = "What now?", answer: str = "Stop.") -> DrivingSample:
    return DrivingSample("q7", "scene", "frame", "planning", "open_ended", question, answer, images)


def looked_at(folder: Path, given: DrivingSample, limits: Limits | None = None, **settings: Any) -> tuple[Any, Faults]:
    lengths = PromptLengths(str(folder), PolicySettings(model=str(folder)))
    settings = {"strip": False, **settings}
    faults = Faults()
    return list(Fitting(lengths, limits or Limits(None, None, ""), **settings).admitted([given], faults)), faults


def test_every_familys_special_token_in_a_text_is_found_with_the_samples_id(
    family: tuple[Path, str], tmp_path: Path
) -> None:
    folder, token = family
    plain = sample({"CAM_FRONT": photo(tmp_path)})
    for field in ("question", "answer", "reasoning"):
        changed: dict[str, Any] = {field: f"{token}\nWhat now?"}
        kept, faults = looked_at(folder, replace(plain, **changed))
        assert (kept, dict(faults.dropped)) == ([], {"special_token": ["q7"]})
        (note,) = faults.notes
        assert note.startswith(f"question q7 has {token!r} in its {field}")
    kept, faults = looked_at(folder, plain)
    assert (kept, faults.as_dict()) == ([plain], {})


def test_a_token_is_taken_out_of_every_text_and_counted(family: tuple[Path, str], tmp_path: Path) -> None:
    folder, token = family
    plain = sample({"CAM_FRONT": photo(tmp_path)}, "What do you see here?\nAnd now?")
    tagged = replace(
        plain,
        question=f"{token}\n{token}\nWhat do you {token} see here?\n{token}And now?",
        answer=f"Stop.{token}",
    )
    kept, faults = looked_at(folder, tagged, strip=True)
    assert kept == [plain]
    assert dict(faults.kept) == {"special_token_taken_out": ["q7"]}
    kept, faults = looked_at(folder, replace(plain, answer=token), strip=True)
    assert (kept, dict(faults.dropped)) == ([], {"empty_answer": ["q7"]})


def test_the_encoder_makes_no_prompt_and_no_target_of_a_special_token(family: tuple[Path, str], tmp_path: Path) -> None:
    folder, token = family
    settings = PolicySettings(model=str(folder))
    encoder = PromptEncoder(load_processor(folder, settings), settings)
    with pytest.raises(DataError, match="sample q7: its question holds"):
        encoder.prompt_ids(sample({"CAM_FRONT": photo(tmp_path)}, f"{token}\nWhat?"))
    with pytest.raises(DataError, match="a special token of the model"):
        encoder.answer_ids(f"Stop. {token}")
    prompted = settings.model_copy(update={"system_prompt": f"You drive. {token}"})
    with pytest.raises(PolicyError, match=r"policy\.system_prompt holds"):
        PromptEncoder(load_processor(folder, prompted), prompted).text(sample({}))


def test_the_words_of_a_demonstration_are_no_special_tokens(tiny: Path) -> None:
    settings = PolicySettings(model=str(tiny))
    encoder = PromptEncoder(load_processor(tiny, settings), settings)
    encoder.processor.tokenizer.add_special_tokens({"additional_special_tokens": ["<think>", "</think>"]})
    assert encoder.answer_ids("<think>Red.</think><answer>Stop.</answer>")


def test_a_prompt_without_room_is_reported_with_both_keys_and_its_length(tiny: Path, tmp_path: Path) -> None:
    given = sample({"CAM_FRONT": photo(tmp_path)}, "What about the red car in front of us? " * 3)
    settings = PolicySettings(model=str(tiny))
    length = len(PromptEncoder(load_processor(tiny, settings), settings).prompt_ids(given))
    kept, faults = looked_at(tiny, given, Limits(None, length, "rollout.max_model_len=..."))
    assert (kept, faults.notes) == ([given], {})
    kept, faults = looked_at(tiny, given, Limits(None, length - 1, "rollout.max_model_len=..."))
    assert dict(faults.dropped) == {"prompt_too_long": ["q7"]}
    (note,) = faults.notes
    assert note == f"question q7 has a prompt of {length} tokens; rollout.max_model_len=... leaves {length - 1}"


def test_a_bound_of_a_prompts_length_is_never_too_small(family: tuple[Path, str], tmp_path: Path) -> None:
    lengths = PromptLengths(str(family[0]), PolicySettings(model=str(family[0])))
    for count, question in ((1, "What now?"), (2, "减速吗？ Δx ﬁ"), (2, "a" * 300), (0, "1 2 3 4 5 6 7 8")):
        images = {f"view {n}": photo(tmp_path) for n in range(count)}
        given = sample(images, question)
        assert lengths.at_most(given) >= lengths(given)


def test_an_image_that_a_processor_does_not_take_is_reported_with_the_sample(tmp_path: Path) -> None:
    folder = tiny_qwen2_5_vl(tmp_path / "model")
    kept, faults = looked_at(folder, sample({"CAM_FRONT": photo(tmp_path, (2000, 8))}))
    assert (kept, dict(faults.dropped)) == ([], {"image_refused_by_processor": ["q7"]})
    assert "absolute aspect ratio must be smaller than 200" in next(iter(faults.notes))


# --- a run ------------------------------------------------------------------------------------------------------------


def recipe(folder: Path, **more: Any) -> Recipe:
    return Recipe.model_validate({"run": {"name": "r"}, "policy": {"model": str(folder)}, **more})


def loaded(*samples: DrivingSample) -> LoadedData:
    return LoadedData(Split(samples, samples), {"duplicate_id": ["x"]}, ())


def test_a_seventh_image_is_refused_with_its_key_or_dropped_and_counted(tiny: Path, tmp_path: Path) -> None:
    seven = sample({f"view {n}": photo(tmp_path) for n in range(7)})
    six = replace(seven, id="q6", images=dict(list(seven.images.items())[:6]))
    given, lengths = recipe(tiny, data={"source": "jsonl"}), PromptLengths(str(tiny), PolicySettings(model=str(tiny)))
    said = r"2 too_many_images.*question q7 shows 7 images, and rollout\.max_images=6: set it to 7 or more; data\.unfit"
    with pytest.raises(DataError, match=said):
        fitted_data(given, loaded(six, seven), lengths)
    lenient = given.model_copy(update={"data": given.data.model_copy(update={"unfit": "drop"})})
    data = fitted_data(lenient, loaded(six, seven), lengths)
    assert (data.split.train, data.split.held_out) == ((six,), (six,))
    assert data.faults == {"duplicate_id": ["x"], "too_many_images": ["q7", "q7"]}
    with pytest.raises(DataError, match="no question is left"):
        fitted_data(lenient, loaded(seven), lengths)
    more = given.model_copy(update={"rollout": given.rollout.model_copy(update={"max_images": 7})})
    assert fitted_data(more, loaded(six, seven), lengths).split.train == (six, seven)


def test_overlong_prompts_are_filtered_and_counted_whatever_is_said_of_unfit_ones(tiny: Path, tmp_path: Path) -> None:
    short = sample({"CAM_FRONT": photo(tmp_path)})
    long = replace(short, id="long", question="What about the car? " * 30)
    lengths = PromptLengths(str(tiny), PolicySettings(model=str(tiny)))
    given = recipe(tiny, data={"source": "jsonl", "max_prompt_tokens": lengths(short)})
    data = fitted_data(given, loaded(short, long), lengths)
    assert (data.split.train, data.split.held_out) == ((short,), (short,))
    assert data.faults["longer_than_max_prompt_tokens"] == ["long", "long"]
    with pytest.raises(DataError, match=r"and data\.max_prompt_tokens=.*no question is left"):
        fitted_data(given, loaded(long), lengths)


def test_supervised_training_asks_no_engine_and_has_none_of_its_limits(tiny: Path, tmp_path: Path) -> None:
    seven = sample({f"view {n}": photo(tmp_path) for n in range(7)}, "What about the car? " * 300)
    lengths = PromptLengths(str(tiny), PolicySettings(model=str(tiny)))
    given = recipe(tiny, rollout={"max_model_len": 9000})
    assert fitted_data(given, loaded(seven), lengths, engines=False).split.train == (seven,)
    with pytest.raises(DataError, match="special_token"):
        fitted_data(given, loaded(replace(seven, answer="<image>")), lengths, engines=False)


def test_a_benchmarks_questions_are_looked_at_and_its_true_answers_are_not(tiny: Path, tmp_path: Path) -> None:
    plain = sample({"CAM_FRONT": photo(tmp_path)}, answer="<image> Stop.")
    tagged = replace(plain, id="q8", question="<image>\nWhat now?")
    asked = Benchmark("mine", Any, Any, (Question(plain), Question(tagged)), {})  # type: ignore[arg-type]
    lengths = PromptLengths(str(tiny), PolicySettings(model=str(tiny)))
    looking = fitting_of(recipe(tiny), lengths, answers=False)
    with pytest.raises(DataError, match=r"^mine: the model cannot be asked all questions \(1 special_token\).*q8"):
        asked.fitted(looking, drop=False)
    found = asked.fitted(looking, drop=True)
    assert (found.questions, found.not_asked) == ((Question(plain),), {"not_asked_special_token": 1})
    stripping = fitting_of(recipe(tiny, data={"special_tokens": "strip"}), lengths, answers=False)
    found = asked.fitted(stripping, drop=False)
    assert [one.sample.question for one in found.questions] == ["What now?", "What now?"]


def test_a_response_cap_that_leaves_no_room_for_a_prompt_is_refused_when_the_recipe_is_read() -> None:
    with pytest.raises(
        RecipeError, match=r"rollout: max_tokens=1024 leaves no room for a prompt in max_model_len=1024"
    ):
        load_recipe(["recipes/tiny.yaml", "rollout.max_tokens=1024"])


def test_a_temperature_that_vllm_would_raise_is_refused_when_the_recipe_is_read() -> None:
    with pytest.raises(RecipeError, match=r"rollout\.temperature.*0\.01"):
        load_recipe(["recipes/tiny.yaml", "rollout.temperature=0.005"])


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_finds_what_a_run_would_refuse(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo(tmp_path)
    rows = [
        ("tagged", "<image>\nWhat?", 1),
        ("seven", "What?", 7),
        ("long", "What is it? " * 99, 1),
        ("fits", "Eh?", 1),
    ]
    lines = [
        {
            "id": name,
            "scene_id": "s",
            "task": "planning",
            "kind": "open_ended",
            "question": question,
            "answer": "Stop.",
            "images": {f"view {n}": "64x48.png" for n in range(count)},
        }
        for name, question, count in rows
    ]
    own, written = tmp_path / "own.jsonl", tmp_path / "run.yaml"
    own.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    written.write_text(
        f"run: {{name: r}}\ndata: {{source: jsonl}}\npolicy: {{model: {tiny}}}\n"
        "rollout: {max_model_len: 256, max_tokens: 64}\n"
    )
    assert main(["check", str(own), "--recipe", str(written)]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["dropped"] == {"special_token": 1, "too_many_images": 1, "prompt_too_long": 1}
    assert main(["check", str(own), "--model", str(tiny)]) == 0
    printed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert printed["dropped"] == {"special_token": 1}


def test_where_nothing_is_left_all_faults_are_written_all_the_same(tiny: Path, tmp_path: Path) -> None:
    line = {"scene_id": "s", "task": "planning", "kind": "open_ended", "question": "<image>\nWhat?", "answer": "Stop."}
    own, listed = tmp_path / "own.jsonl", tmp_path / "faults.json"
    own.write_text("".join(f"{json.dumps({'id': name, **line})}\n" for name in ("a", "b")))
    assert main(["check", str(own), "--model", str(tiny), "--faults", str(listed)]) == 2
    assert json.loads(listed.read_text())["entries"] == {"special_token": ["a", "b"]}


def test_more_context_than_the_model_has_is_refused_with_the_number_that_fits(tiny: Path) -> None:
    lengths = PromptLengths(str(tiny), PolicySettings(model=str(tiny)))
    wide = recipe(tiny, rollout={"max_model_len": 5000})
    with pytest.raises(
        PolicyError, match=r"rollout\.max_model_len=5000 is more than the 4096 tokens .*: set it to 4096"
    ):
        fitting_of(wide, lengths, answers=True)
    fitting_of(recipe(tiny, rollout={"max_model_len": 5000, "backend": "transformers"}), lengths, answers=True)
    lengths.stretches = True
    fitting_of(wide, lengths, answers=True)


def test_check_refuses_a_recipe_that_is_none_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own.jsonl").write_text("{}\n")
    assert main(["check", str(tmp_path / "own.jsonl"), "--recipe", str(tmp_path / "gone.yaml")]) == 2
    assert "gone.yaml does not exist" in capsys.readouterr().err


def test_a_recipe_is_looked_at_as_it_is_run(tiny: Path) -> None:
    given = recipe(tiny, rollout={"max_model_len": 300, "max_tokens": 100, "max_images": 3})
    limits = fitting_of(given, PromptLengths(str(tiny), given.policy), answers=True)._limits
    assert limits == Limits(3, 200, "rollout.max_model_len=300 less rollout.max_tokens=100")
