"""Driving tokens in a model: its matrices grow, with adapters the new rows alone learn, only what is due is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import AutoModelForImageTextToText

from actors.inputs import read_inputs
from data.sample import DrivingSample, Trajectory
from data.tokens.bins import Bins
from data.tokens.codebook import Codebook
from data.tokens.segments import Segment
from policies.batch import Batch, TrainingGroup, TrainingResponse, pack
from policies.errors import PolicyError
from policies.heads.due import STATES, Due
from policies.heads.faults import HeadFaults
from policies.heads.files import heads_in
from policies.heads.rows import grown, without_rows
from policies.model import Policy, ReferencePolicy, load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import HeadSettings, LoraSettings, PolicySettings
from policies.source import policy_source
from policies.tiny import build_tiny_policy
from recipe import RecipeError, load_recipe
from tests.families import tiny_qwen2_5_vl

ROOT = Path(__file__).parents[2]
DUE = Due(frozenset({10, 11}), frozenset({12, 13}), frozenset({14}), 1, 2, at_once=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with small bins, two codebooks and a tiny model of each of two families."""
    folder = tmp_path_factory.mktemp("heads")
    futures = [tuple((0.1 * n * x, 1.0 * n * y, 0.0) for n in range(1, 7)) for x in range(-3, 4) for y in range(5)]
    bins, _ = Bins.fit([Trajectory((), future, "forward") for future in futures], 16)
    bins.write(folder / "bins.json", {})
    for name, count in (("codes", 8), ("others", 7)):
        segments = [Segment(0.3 * n, 0.01 * (n % 3), 0.0) for n in range(30)]
        Codebook.fit(segments, count)[0].write(folder / f"{name}.json", {})
    build_tiny_policy(folder / "llava")
    tiny_qwen2_5_vl(folder / "qwen")
    return folder


def settings(folder: Path, model: str, **more: object) -> PolicySettings:
    heads = {"trajectory": str(folder / "bins.json"), "actions": str(folder / "codes.json")}
    given = {"model": str(folder / model), "heads": {**heads, **dict(more.pop("heads", {}))}}  # type: ignore[call-overload]
    return PolicySettings.model_validate(given | more)


@pytest.mark.parametrize("model", ["llava", "qwen"])
def test_a_model_grows_by_its_tokens_once_and_both_libraries_files_are_there(folder: Path, model: str) -> None:
    given = settings(folder, model)
    source = Path(policy_source(given, folder / "cache", 0, ()))
    assert Path(policy_source(given, folder / "cache", 0, ())) == source
    tokenizer = load_processor(source, given).tokenizer
    text = "I go. <traj_x_003><traj_y_015><act_0007>"
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert [tokenizer.decode([id_], skip_special_tokens=True) for id_ in ids[-3:]] == [
        "<traj_x_003>",
        "<traj_y_015>",
        "<act_0007>",
    ]
    before = AutoModelForImageTextToText.from_pretrained(folder / model)
    after = AutoModelForImageTextToText.from_pretrained(source)
    rows = before.get_input_embeddings().weight.shape[0]
    old = min(rows, min(tokenizer.convert_tokens_to_ids(w) for w in heads_in(source).words))
    assert after.get_input_embeddings().weight.shape[0] >= len(tokenizer)
    assert torch.equal(after.get_input_embeddings().weight[:old], before.get_input_embeddings().weight[:old])
    tied = before.get_input_embeddings().weight is before.get_output_embeddings().weight
    assert (after.get_input_embeddings().weight is after.get_output_embeddings().weight) == tied
    assert heads_in(source).hash == heads_in(source).hash
    # A grown model is not grown again: it knows these tokens, also where the files that it was made with are gone.
    for files in ({}, {"trajectory": "gone.json", "actions": "gone.json"}):
        again = settings(folder, str(source), heads=files)
        assert policy_source(again, folder / "cache", 0, ()) == str(source)


def test_new_rows_begin_as_the_mean_or_as_what_writes_their_number(folder: Path) -> None:
    for start in ("mean", "numerals"):
        given = settings(folder, "llava", heads={"start": start})
        source = policy_source(given, folder / "cache", 0, ())
        tokenizer = load_processor(source, given).tokenizer
        weight = AutoModelForImageTextToText.from_pretrained(source).get_input_embeddings().weight
        row = weight[tokenizer.convert_tokens_to_ids("<act_0005>")]
        five = weight[tokenizer("5", add_special_tokens=False)["input_ids"]].mean(dim=0)
        old = weight[: min(tokenizer.convert_tokens_to_ids(word) for word in heads_in(Path(source)).words)]
        wanted = old.mean(dim=0) if start == "mean" else five
        assert float((row - wanted).detach().norm()) < 0.2 * float(old.detach().norm(dim=1).mean())
        assert not torch.equal(row, weight[tokenizer.convert_tokens_to_ids("<act_0006>")])


def test_a_codebook_of_another_model_is_refused_by_its_hash(folder: Path) -> None:
    source = policy_source(settings(folder, "llava"), folder / "cache", 0, ())
    other = settings(folder, "llava", heads={"actions": str(folder / "others.json")})
    with pytest.raises(PolicyError, match=r"policy.heads.actions has the hash \w+, and .* learnt tokens of"):
        policy_source(other.model_copy(update={"model": source}), folder / "cache", 0, ())
    lost = settings(folder, "llava", heads={"actions": str(folder / "nothing.json")})
    with pytest.raises(PolicyError, match="nothing.json is no file of action codebook"):
        policy_source(lost, folder / "cache", 0, ())


def test_data_and_environment_must_speak_the_language_that_the_policy_learns(folder: Path, tmp_path: Path) -> None:
    recipe = str(ROOT / "recipes/tiny_vla_rl.yaml")
    root = f"run.root={tmp_path}"
    with pytest.raises(PolicyError, match=r"data.options.codebook=driving needs policy.heads.actions=driving"):
        read_inputs(load_recipe([recipe, root, "policy.heads=null"]))
    other = f"environment.options.codebook={folder / 'codes.json'}"
    with pytest.raises(
        PolicyError, match=r"environment.options.codebook=.* has the hash \w+, and policy.heads.actions"
    ):
        read_inputs(load_recipe([recipe, root, other]))


def test_heads_without_a_file_and_adapters_apart_are_refused() -> None:
    with pytest.raises(ValidationError, match="names no tokens"):
        HeadSettings()
    given = [str(ROOT / "recipes/tiny_vla_rl.yaml"), "policy.lora={rank: 4}", "rollout.adapters=apart"]
    with pytest.raises(RecipeError, match="leaves the rows of driving tokens behind"):
        load_recipe(given)


def packed(policy: Policy, encoder: PromptEncoder, answer: str) -> Batch:
    ids = encoder.answer_ids(answer)
    response = TrainingResponse(ids, rollout_logprobs=(0.0,) * len(ids), credits=(1.0,) * len(ids))
    sample = DrivingSample("a", "a", "a", "planning", "coordinates", "Where?", answer, {})
    one = TrainingGroup((), encoder.prompt_ids(sample), (response,))
    positions = policy.prompt_positions
    return pack([one], encoder.image_tensors, pad_id=0, shared_prefix=policy.shares_prefix, prompt_positions=positions)


@pytest.mark.parametrize("model", ["llava", "qwen"])
def test_with_adapters_the_new_rows_learn_and_the_old_ones_stay(folder: Path, model: str) -> None:
    given = settings(folder, model, lora=LoraSettings(rank=4), heads={"answer": "think"})
    source = policy_source(given, folder / "cache", 0, ())
    policy = load_policy(source, given, 1.0)
    encoder = PromptEncoder(load_processor(source, given), given)
    batch = packed(policy, encoder, "<act_0003>")
    modules = list(grown(policy).values())
    assert len(modules) == 2
    before = [module.whole().detach().clone() for module in modules]
    untrained = ReferencePolicy(policy).logprobs(batch)
    assert torch.equal(untrained, policy(batch)[0])
    optimizer = torch.optim.SGD([p for p in policy.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        optimizer.zero_grad()
        (-policy(batch)[0].sum()).backward()
        optimizer.step()
    for module, old in zip(modules, before, strict=True):
        moved = (module.whole() - old).abs().amax(dim=1) > 0
        first, count = module.first, module.rows.shape[0]
        assert not moved[:first].any()
        assert not moved[first + count :].any()
        assert moved.any()
    assert not torch.equal(policy(batch)[0], untrained)
    assert torch.allclose(ReferencePolicy(policy).logprobs(batch), untrained, atol=1e-6)
    with without_rows(policy):
        assert all(torch.equal(module.whole(), module.weight) for module in modules)


def test_the_learners_log_probabilities_are_those_of_what_was_due(folder: Path) -> None:
    given = settings(folder, "llava", heads={"actions": None, "answer": "tokens"})
    source = policy_source(given, folder / "cache", 0, ())
    policy = load_policy(source, given, 1.0)
    encoder = PromptEncoder(load_processor(source, given), given)
    words = "<traj_x_003><traj_y_015>" * 6
    batch = packed(policy, encoder, words)
    logprobs = policy(batch)[0]
    hidden = policy.body.model(**batch.model_inputs, use_cache=False).last_hidden_state
    logits = policy.body.lm_head(hidden.flatten(0, 1)[batch.source_R_T.flatten()[batch.real_N]])
    tokenizer = encoder.processor.tokenizer
    for place, kind in enumerate(["x", "y"] * 6):
        ids = [tokenizer.convert_tokens_to_ids(f"<traj_{kind}_{n:03d}>") for n in range(16)]
        among = torch.log_softmax(logits[place, ids], -1)
        assert torch.allclose(logprobs[0, place], among[3 if kind == "x" else 15], atol=1e-5)
    assert float(logprobs[0, 12].detach()) == 0.0, "the end alone is due"
    (-logprobs.sum()).backward()
    assert all(torch.isfinite(p.grad).all() for p in policy.parameters() if p.grad is not None)


def test_what_is_due_takes_turns_and_ends() -> None:
    for ids, state in (([], "x"), ([10], "y"), ([10, 12], "x"), ([10, 12, 11], "y"), ([10, 12, 11, 13], "after")):
        both = Due(DUE.x, DUE.y, frozenset(), 1, 2, at_once=True)
        assert both.after(ids) == state
    motion = Due(frozenset(), frozenset(), frozenset({14}), 1, 0, at_once=True)
    assert [motion.after(ids) for ids in ([], [14])] == ["action", "after"]
    thinking = Due(DUE.x, DUE.y, DUE.actions, 1, 2, at_once=False)
    assert [thinking.after(ids) for ids in ([], [5], [5, 10], [5, 14])] == ["text", "text", "y", "after"]
    assert thinking.allows([5, 6, 10, 12, 11, 13, 7, 1])
    assert not thinking.allows([5, 12])
    assert not thinking.allows([10, 12, 11, 13, 10])
    assert not DUE.allows([5, 1])
    assert DUE.allows([14, 1])


@given(st.lists(st.sampled_from([1, 5, 10, 11, 12, 13, 14]), max_size=12), st.booleans())
def test_engine_and_learner_are_given_the_same(ids: list[int], at_once: bool) -> None:
    rule = Due(DUE.x, DUE.y, DUE.actions, 1, 2, at_once)
    assert rule.states(ids) == [STATES.index(rule.after(ids[:place])) for place in range(len(ids))]


def test_samples_with_tokens_that_the_model_lacks_or_that_are_not_due_are_named(folder: Path) -> None:
    given = settings(folder, "llava", heads={"trajectory": None})
    source = policy_source(given, folder / "cache", 0, ())
    faults = HeadFaults(source, given, PromptEncoder(load_processor(source, given), given))

    def of(question: str, answer: str) -> str | None:
        sample = DrivingSample("a", "a", "a", "planning", "open_ended", question, answer, {})
        found = faults.fault(sample, answers=True)
        return None if found is None else found[0]

    assert of("Where?", "<act_0003>") is None
    assert of("Where?", "<act_0009>") == "unknown_driving_token"
    assert of("After <traj_x_001>?", "<act_0003>") == "unknown_driving_token"
    assert of("Where?", "I brake.") == "answer_not_due"
    assert of("Where?", "<act_0003><act_0003>") == "answer_not_due"
