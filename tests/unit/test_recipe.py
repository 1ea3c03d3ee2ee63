"""Reading recipes: every mistake is one sentence that names the file or the key, and what is read can be written."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from recipe import Recipe, RecipeError, dump_recipe, load_recipe, load_stages

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text("run: {name: mine, steps: 3}\nlearner:\n  lr: 0.001\n")
    return path


def error_of(*arguments: object) -> str:
    with pytest.raises(RecipeError) as caught:
        load_recipe([str(argument) for argument in arguments])
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_recipe_is_read_with_its_defaults(written: Path) -> None:
    recipe = load_recipe([str(written)])
    assert (recipe.run.name, recipe.run.steps, recipe.learner.lr) == ("mine", 3, 0.001)
    assert recipe.rollout.group_size == 8


def test_no_argument_asks_for_a_recipe_file() -> None:
    assert "name a recipe file" in error_of()


def test_a_missing_file_is_named_with_the_recipes_there_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "tiny.yaml").write_text("run: {name: tiny}")
    (tmp_path / "recipes" / "strategies").mkdir()
    for name in ("joint", "sft"):
        (tmp_path / "recipes" / "strategies" / f"{name}.yaml").write_text("run: {name: x}")
    monkeypatch.chdir(tmp_path)
    message = error_of("recipes/tyni.yaml")
    assert message.endswith(
        "tyni.yaml does not exist (did you mean recipes/tiny.yaml?); recipes here: recipes/strategies/*.yaml, "
        "recipes/tiny.yaml"
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"run: {name: x", "line"),
        (b"\xff\xfe", "utf-8"),
        (b"? [a, b]\n: c\n", "unhashable"),
        (b"run: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
        (b"run: {name: x}\nlearner: {lr: 1}\nlearner: {}\n", "learner is written twice"),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(content)
    message = error_of(path)
    assert str(path) in message
    assert "not valid YAML" in message
    assert said in message


@pytest.mark.parametrize("content", ["", "- run", "just text"])
def test_a_file_that_holds_no_mapping_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "list.yaml"
    path.write_text(content)
    assert f"{path} must hold a mapping" in error_of(path)


def test_merge_keys_may_repeat_what_they_bring(tmp_path: Path) -> None:
    path = tmp_path / "merged.yaml"
    path.write_text("run: {name: x}\nsync: &times {timeout_s: 5}\nlearner: {<<: *times, timeout_s: 7}\n")
    recipe = load_recipe([str(path)])
    assert (recipe.sync.timeout_s, recipe.learner.timeout_s) == (5, 7)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lerner.lr=1", "unknown key lerner (did you mean learner?)"),
        ("learner.lrr=1", "unknown key learner.lrr (did you mean lr?)"),
        ("policy.lora.rnak=8", "unknown key policy.lora.rnak (did you mean rank?)"),
        ("reward.gate.ngrams=2", "unknown key reward.gate.ngrams (did you mean ngram?)"),
        ("reward.routes=[{scorers: {}, kindd: any}]", "unknown key reward.routes.0.kindd (did you mean kind?)"),
        ("sync.zzz=1", "known: bucket_mib, compare_every"),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(written: Path, override: str, said: str) -> None:
    message = error_of(written, override)
    assert said in message
    assert str(written) in message


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("learner.lr=fast", "learner.lr: Input should be a valid number"),
        ("rollout.engines=0", "rollout.engines: Input should be greater than or equal to 1"),
        ("run.steps=2.5", "run.steps: Input should be a valid integer"),
        ("data.source=[drivelm]", "data.source: Input should be a valid string"),
        ("data.options=[a]", "data.options: Input should be a valid dictionary"),
        ("data.anotations=a.json", "unknown key data.anotations (did you mean options?)"),
        ("run=3", "run: Input should be a valid dictionary"),
        ("reward.routes=[{}]", "reward.routes.0.scorers is missing"),
    ],
)
def test_a_value_that_does_not_fit_is_named(written: Path, override: str, said: str) -> None:
    message = error_of(written, override)
    assert said in message
    assert "pydantic" not in message


def test_a_missing_required_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "nameless.yaml"
    path.write_text("run: {steps: 1}")
    assert error_of(path) == f"{path}: run.name is missing"


@pytest.mark.parametrize("override", ["learner.lr", "=1", ".=1", "learner.=1", ".lr=1", "learner..lr=1"])
def test_a_malformed_override_is_named(written: Path, override: str) -> None:
    assert f"override {override!r} must look like part.key=value" in error_of(written, override)


def test_an_override_below_a_value_is_named(written: Path) -> None:
    assert "name holds a value, not a mapping" in error_of(written, "run.name.first=1")


def test_an_override_with_a_broken_value_is_named(written: Path) -> None:
    assert "override 'learner.lr=[1': the value is not valid YAML" in error_of(written, "learner.lr=[1")


def test_overrides_are_read_as_yaml_and_the_last_one_wins(written: Path) -> None:
    recipe = load_recipe([str(written), "learner.lr=1e-4", "policy.lora={rank: 4}", "run.steps=1", "run.steps=2"])
    assert (recipe.learner.lr, recipe.run.steps) == (1e-4, 2)
    assert recipe.policy.lora is not None
    assert recipe.policy.lora.rank == 4


def test_an_override_value_may_hold_equal_signs(written: Path) -> None:
    assert load_recipe([str(written), "run.root=/tmp/a=b"]).run.root == "/tmp/a=b"


def test_a_recipe_cannot_be_changed_after_it_was_read(written: Path) -> None:
    recipe = load_recipe([str(written)])
    with pytest.raises(ValueError, match="frozen"):
        recipe.run.steps = 9  # type: ignore[misc]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_resolves_and_survives_being_written(path: Path, tmp_path: Path) -> None:
    for recipe in load_stages([str(path)]):
        assert_survives_being_written(recipe, tmp_path)


STAGED = """
run: {name: three, root: /runs, steps: 5}
warm_start: {steps: 7}
stages:
  - {name: describe, data.questions: describe}
  - {name: decide, run.steps: 9, warm_start.steps: 0}
"""


def test_a_stage_begins_with_the_policy_that_the_stage_before_it_left(tmp_path: Path) -> None:
    path = tmp_path / "staged.yaml"
    path.write_text(STAGED)
    first, second = load_stages([str(path), "rollout.group_size=4"])
    assert (first.run.name, second.run.name) == ("three-1-describe", "three-2-decide")
    assert (first.data.options, second.data.options) == ({"questions": "describe"}, {})
    assert (first.run.steps, second.run.steps) == (5, 9)
    assert (first.policy.model, second.policy.model) == ("tiny", "/runs/three-1-describe/policy")
    assert first.rollout.group_size == second.rollout.group_size == 4
    assert "has stages (three-1-describe, three-2-decide)" in error_of(path)


@pytest.mark.parametrize("stages", ["[]", "[describe]", "[{run.steps: 3}]", "describe"])
def test_stages_that_are_no_list_of_named_mappings_are_refused(tmp_path: Path, stages: str) -> None:
    path = tmp_path / "staged.yaml"
    path.write_text(f"run: {{name: x}}\nstages: {stages}\n")
    assert f"{path}: stages must be a list of mappings, each with a name" in error_of(path)


def test_a_file_sets_apart_what_differs_from_its_base(written: Path) -> None:
    other = written.parent / "sets" / "other.yaml"
    other.parent.mkdir()
    other.write_text("base: ../mine.yaml\nrun: {name: other}\nlearner: {ranks: 2}\n")
    recipe = load_recipe([str(other), "learner.zero_stage=2"])
    assert (recipe.run.name, recipe.run.steps) == ("other", 3)
    assert (recipe.learner.lr, recipe.learner.ranks, recipe.learner.zero_stage) == (0.001, 2, 2)


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        ("missing.yaml", "base missing.yaml does not exist (looked for "),
        ("[a, b]", "base must be the name of a recipe file, got ['a', 'b']"),
        ("loop.yaml", "base loop.yaml leads back to itself"),
        ("there_and_back.yaml", "base there_and_back.yaml leads back to itself"),
    ],
)
def test_a_base_that_cannot_be_used_is_named(tmp_path: Path, base: str, sentence: str) -> None:
    (tmp_path / "there_and_back.yaml").write_text("base: loop2.yaml\n")
    (tmp_path / "loop2.yaml").write_text("base: there_and_back.yaml\n")
    path = tmp_path / "loop.yaml"
    path.write_text(f"base: {base}\nrun: {{name: x}}\n")
    assert sentence in error_of(path)


def test_responses_of_a_group_of_one_have_nothing_to_be_compared_with(written: Path) -> None:
    said = error_of(written, "rollout.group_size=1")
    assert "rollout.group_size=1 leaves algorithm.name=grpo nothing to compare" in said
    assert "nothing to compare" in error_of(written, "rollout.group_size=1", "algorithm.name=reinforce_pp_baseline")
    assert load_recipe([str(written), "rollout.group_size=1", "algorithm.name=ppo"]).rollout.group_size == 1


def test_the_options_of_an_algorithm_are_checked_by_its_class_and_kept_complete(written: Path) -> None:
    written.write_text("run: {name: mine}\nalgorithm: {name: dapo, options: {clip_high: 0.3}}\n")
    options = load_recipe([str(written), "algorithm.options.refills=2"]).algorithm.options
    assert (options["clip_high"], options["refills"], options["aggregation"]) == (0.3, 2, "token-mean")
    assert "unknown key algorithm.options.clip_hihg (did you mean clip_high?)" in error_of(
        written, "algorithm.options.clip_hihg=1"
    )


OF_BEFORE = {
    "grpo": "kl_beta: 0.05, advantage: normalised, ratio: token, objective: clipped-ratio, kl_in: loss, trace: 1.0",
    "gspo": "clip_low: 0.0003, ratio: sequence, value_weight: 0.5, whiten: false, kl_target: null",
    "ppo": "trace: 1.0, advantage: critic, kl_in: reward, kl_target: 3.0, whiten: true, dual_clip: null",
    "cispo": "objective: clipped-weight, dual_clip: null, advantage_epsilon: 1.0e-4",
}


@pytest.mark.parametrize("name", OF_BEFORE)
def test_a_recipe_of_before_held_the_options_beside_the_name(written: Path, name: str) -> None:
    """As an old run folder has them: every key that any algorithm knew."""
    written.write_text(f"run: {{name: mine}}\nalgorithm: {{name: {name}, {OF_BEFORE[name]}}}\n")
    options = load_recipe([str(written)]).algorithm.options
    given = yaml.safe_load(f"{{{OF_BEFORE[name]}}}")
    assert {key: options[key] for key in given if key in options} == {k: v for k, v in given.items() if k in options}
    assert options.keys().isdisjoint({"advantage", "ratio", "objective"})
    assert load_recipe([str(written), "algorithm.kl_beta=0.7"]).algorithm.options["kl_beta"] == 0.7


def test_a_key_of_before_that_contradicts_the_name_says_which_name_it_stands_for(written: Path) -> None:
    said = error_of(written, "algorithm.ratio=sequence")
    assert "algorithm.ratio=sequence is not what grpo does: set algorithm.name to gspo" in said
    assert "set algorithm.name to ppo or a2c" in error_of(written, "algorithm.advantage=critic")
    assert "unknown key algorithm.options.trace" in error_of(written, "algorithm.trace=0.9")


def test_adapters_travel_apart_only_where_an_engine_can_load_them(written: Path) -> None:
    assert "needs policy.lora" in error_of(written, "rollout.adapters=apart")
    lora = "policy.lora={rank: 4, targets: [vision]}"
    assert "needs policy.lora" in error_of(written, "rollout.adapters=apart", lora)


def test_engine_settings_of_before_are_options_of_vllm_and_none_of_others(tmp_path: Path) -> None:
    old = "compile: true, memory_gib: 2, max_concurrent: 9, gpu_memory_share: 0.5"
    path = tmp_path / "old.yaml"
    path.write_text(f"run: {{name: x}}\nrollout: {{{old}}}\nsync: {{backend: gloo}}\n")
    recipe = load_recipe([str(path)])
    assert recipe.rollout.options == {"compile": True, "memory_gib": 2, "max_concurrent": 9, "gpu_memory_share": 0.5}
    assert recipe.sync.transport == "gloo"
    newer = load_recipe([str(path), "rollout.memory_gib=3", "rollout.options.compile=false", "sync.backend=nccl"])
    assert (newer.rollout.options["memory_gib"], newer.rollout.options["compile"]) == (3, False)
    assert newer.sync.transport == "nccl"
    assert load_recipe([str(path), "rollout.backend=transformers"]).rollout.options == {}
    path.write_text(f"run: {{name: x}}\nrollout: {{backend: transformers, {old}}}\n")
    assert load_recipe([str(path)]).rollout.options == {}


@pytest.mark.parametrize(
    ("twice", "said"),
    [
        ("rollout: {compile: true, options: {compile: false}}", "rollout.compile and rollout.options.compile differ"),
        ("sync: {backend: nccl, transport: gloo}", "sync.backend and sync.transport differ: give the second alone"),
    ],
)
def test_a_key_under_its_old_and_its_new_name_is_refused(tmp_path: Path, twice: str, said: str) -> None:
    path = tmp_path / "twice.yaml"
    path.write_text(f"run: {{name: x}}\n{twice}\n")
    assert said in error_of(path)


def test_every_key_of_a_written_recipe_is_present(written: Path) -> None:
    tree = yaml.safe_load(dump_recipe(load_recipe([str(written)])))
    assert set(tree) == set(Recipe.model_fields)
    assert tree.pop("environment") is None
    for part in tree:
        field = Recipe.model_fields[part]
        assert set(tree[part]) == set(field.annotation.model_fields), part  # type: ignore[union-attr]


@given(
    lr=st.floats(min_value=1e-30, max_value=1e6),
    steps=st.integers(min_value=0, max_value=10**9),
    name=st.text(min_size=1).filter(lambda text: text.isprintable()),
    resume=st.booleans(),
    shares=st.dictionaries(st.sampled_from(["perception", "planning"]), st.floats(min_value=0, max_value=9)),
    size=st.none() | st.tuples(st.integers(1, 4096), st.integers(1, 4096)),
    rank=st.none() | st.integers(min_value=1, max_value=512),
)
def test_any_value_given_as_an_override_is_the_value_of_the_recipe(
    tmp_path_factory: pytest.TempPathFactory,
    lr: float,
    steps: int,
    name: str,
    resume: bool,
    shares: dict[str, float],
    size: tuple[int, int] | None,
    rank: int | None,
) -> None:
    folder = tmp_path_factory.mktemp("recipe")
    path = folder / "base.yaml"
    path.write_text("run: {name: base}\n")
    wanted = {
        "learner.lr": lr,
        "run.steps": steps,
        "run.name": name,
        "run.resume": resume,
        "data.task_shares": shares,
        "policy.image_size": None if size is None else list(size),
        "policy.lora": None if rank is None else {"rank": rank},
    }
    overrides = [f"{key}={yaml.safe_dump(value, default_flow_style=True)}" for key, value in wanted.items()]
    recipe = load_recipe([str(path), *overrides])
    assert (recipe.learner.lr, recipe.run.steps, recipe.run.name, recipe.run.resume) == (lr, steps, name, resume)
    assert recipe.data.task_shares == shares
    assert recipe.policy.image_size == size
    assert (recipe.policy.lora.rank if recipe.policy.lora else None) == rank
    assert_survives_being_written(recipe, folder)


@given(key=st.text(max_size=20), value=st.text(max_size=20))
def test_no_override_ends_in_anything_but_a_recipe_or_a_recipe_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: str
) -> None:
    path = tmp_path_factory.mktemp("recipe") / "base.yaml"
    path.write_text("run: {name: base}\n")
    for override in (f"{key}={value}", f"run.{key}={value}", f"learner.lr={value}"):
        with contextlib.suppress(RecipeError):
            load_recipe([str(path), override])


def assert_survives_being_written(recipe: Recipe, folder: Path) -> None:
    path = folder / "written.yaml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe([str(path)]) == recipe


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://driver:sentinel@host/v1", "holds a user name or a password"),
        ("https://sentinel@host/v1", "holds a user name or a password"),
        ("https://host/v1?api_key=sentinel", "holds the parameter api_key"),
        ("https://host/v1?version=2&Subscription-Key=sentinel", "holds the parameter Subscription-Key"),
        ("https://host/v1#access_token=sentinel", "holds the parameter access_token"),
        ("https://[sentinel/v1", "cannot be read as a URL"),
    ],
)
def test_a_judges_url_holds_no_secret_and_what_refuses_it_does_not_tell_it(url: str, said: str) -> None:
    with pytest.raises(RecipeError, match=rf"reward\.judge\.url: .*{said}.*api_key_env") as caught:
        load_recipe(["recipes/tiny_judge.yaml", f"reward.judge.url={url}"])
    assert "sentinel" not in str(caught.value)


@pytest.mark.parametrize("override", ["reward.judge=http://u:sentinel@host", "reward.judge.url=[http://u:sentinel@h"])
def test_no_message_tells_the_password_of_a_url(override: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(["recipes/tiny_judge.yaml", override])
    assert "sentinel" not in str(caught.value)


def test_a_url_without_secrets_is_kept_as_it_is() -> None:
    url = "https://host/openai/v1?api-version=2024-10-21"
    judge = load_recipe(["recipes/tiny_judge.yaml", f"reward.judge.url={url}"]).reward.judge
    assert judge is not None
    assert judge.url == url


def test_a_recipe_that_is_nested_without_end_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "deep.yaml").write_text("a: " + "[" * 3000)
    with pytest.raises(RecipeError, match=r"deep\.yaml is nested too deeply"):
        load_recipe([str(tmp_path / "deep.yaml")])
    with pytest.raises(RecipeError, match="the value is not valid YAML"):
        load_recipe(["recipes/tiny.yaml", "run.name=" + "[" * 3000])
