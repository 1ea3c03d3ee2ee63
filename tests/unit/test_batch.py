"""Packing: shared-prefix rows give the same log-probabilities and gradients as plain rows."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import flex_attention

from policies.attention import attend_by_parts, shared_mask
from policies.batch import Batch, TrainingGroup, TrainingResponse, pack
from policies.model import Policy, load_policy
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from policies.views import View
from tests.rounding import assert_same_gradient, assert_same_values

IMAGE = {"pixel_values": torch.zeros(6, 3, 8, 8)}


def group(prompt: int, lengths: list[int]) -> TrainingGroup:
    responses = tuple(
        TrainingResponse(tuple(range(20, 20 + n)), tuple(-float(i) for i in range(n)), credits=(float(n),) * n)
        for n in lengths
    )
    return TrainingGroup((View("CAM_FRONT", "a.jpg"),), tuple(range(prompt)), responses)


def packed(groups: list[TrainingGroup], shared_prefix: bool) -> Batch:
    return pack(groups, lambda _: IMAGE, pad_id=0, shared_prefix=shared_prefix)


GROUPS = st.lists(
    st.builds(group, st.integers(1, 9), st.lists(st.integers(1, 5), min_size=1, max_size=4)), min_size=1, max_size=3
)


@given(GROUPS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_token_is_predicted_from_the_position_before_it(groups: list[TrainingGroup], shared: bool) -> None:
    batch = packed(groups, shared)
    ids = batch.model_inputs["input_ids"]
    flat = ids.flatten()
    responses = [(g, r) for g in groups for r in g.responses]
    assert batch.mask_R_T.sum() == sum(len(r.token_ids) for _, r in responses)
    for row, (g, r) in enumerate(responses):
        sources = batch.source_R_T[row, : len(r.token_ids)]
        assert flat[sources[0]] == g.prompt_ids[-1]
        assert flat[sources[1:]].tolist() == list(r.token_ids[:-1])
        assert batch.token_ids_R_T[row, : len(r.token_ids)].tolist() == list(r.token_ids)


@given(GROUPS)
@settings(max_examples=60, deadline=None)
def test_in_a_shared_row_a_response_sees_the_prompt_and_itself_only(groups: list[TrainingGroup]) -> None:
    batch = packed(groups, shared_prefix=True)
    allowed = seen_positions(batch)
    for b, g in enumerate(groups):
        prompt, start = len(g.prompt_ids), len(g.prompt_ids)
        for r in g.responses:
            for offset in range(len(r.token_ids)):
                seen = allowed[b, start + offset].nonzero()[:, 0].tolist()
                assert seen == [*range(prompt), *range(start, start + offset + 1)]
            positions = batch.model_inputs["position_ids"][b, start : start + len(r.token_ids)]
            assert positions.tolist() == list(range(prompt, prompt + len(r.token_ids)))
            start += len(r.token_ids)


def seen_positions(batch: Batch) -> torch.Tensor:
    """(B, L, L): whether a position (second) is seen by another (first), by what reaches it of a value of its own."""
    ids_B_L = batch.model_inputs["input_ids"]
    rows, length = ids_B_L.shape
    assert batch.shared is not None
    mask = shared_mask(batch.shared, length, "sdpa", ids_B_L.device)
    heads_B_1_L_E = torch.zeros(rows, 1, length, length)
    values_B_1_L_E = torch.eye(length).expand(rows, 1, length, length)
    found_B_L_1_E, _ = attend_by_parts(torch.nn.Module(), heads_B_1_L_E, heads_B_1_L_E, values_B_1_L_E, mask)
    return found_B_L_1_E[:, :, 0] > 0


@given(GROUPS)
@settings(max_examples=20, deadline=None)
def test_both_kernels_let_the_same_positions_be_seen(groups: list[TrainingGroup]) -> None:
    batch = packed(groups, shared_prefix=True)
    assert batch.shared is not None
    length = batch.model_inputs["input_ids"].shape[1]
    zeros = torch.zeros(len(groups), 1, length, 4)
    values = torch.eye(length).expand(len(groups), 1, length, length).contiguous()
    blocks = shared_mask(batch.shared, length, "flex", zeros.device)
    found = flex_attention(zeros, zeros, values, block_mask=blocks)[:, 0] > 0
    expected = seen_positions(batch)
    for b, ends in enumerate(batch.shared):
        assert torch.equal(found[b, : ends[-1]], expected[b, : ends[-1]])


def test_images_are_packed_once_per_group_when_the_prefix_is_shared() -> None:
    groups = [group(4, [2, 3]), group(5, [1, 1])]
    assert len(packed(groups, True).model_inputs["pixel_values"]) == 2 * 6
    assert len(packed(groups, False).model_inputs["pixel_values"]) == 4 * 6


def test_a_response_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="without tokens"):
        packed([group(3, [0])], True)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    folder: Path = build_tiny_policy(tmp_path_factory.mktemp("policy") / "tiny")
    return load_policy(folder, PolicySettings(), temperature=1.3)


def real_groups(policy: Policy) -> list[TrainingGroup]:
    image = policy.body.config.image_token_id
    vision = policy.body.config.vision_config
    tokens = 6 * (vision.image_size // vision.patch_size) ** 2
    generator = torch.Generator().manual_seed(1)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(10, 200, (count,), generator=generator).tolist())

    return [
        TrainingGroup(
            (View("CAM_FRONT", name),),
            (image,) * tokens + ids(text),
            tuple(TrainingResponse(ids(n), (0.0,) * n, (float(n),) * n) for n in lengths),
        )
        for name, text, lengths in (("a", 7, [3, 1, 6]), ("b", 12, [2, 4]))
    ]


def logprobs_and_gradient(policy: Policy, shared: bool) -> tuple[torch.Tensor, torch.Tensor]:
    size = policy.body.config.vision_config.image_size
    frames = {
        name: {"pixel_values": torch.randn(6, 3, size, size, generator=torch.Generator().manual_seed(seed))}
        for seed, name in enumerate("ab")
    }
    batch = pack(real_groups(policy), lambda views: frames[views[0].path], pad_id=0, shared_prefix=shared)
    policy.zero_grad()
    logprobs, _ = policy(batch)
    (logprobs * batch.mask_R_T * batch.credits_R_T).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    return (logprobs * batch.mask_R_T).detach(), gradient


def test_a_shared_prefix_changes_neither_log_probabilities_nor_gradients(policy: Policy) -> None:
    shared, shared_gradient = logprobs_and_gradient(policy, shared=True)
    plain, plain_gradient = logprobs_and_gradient(policy, shared=False)
    assert_same_values(shared, plain)
    assert_same_gradient(shared_gradient, plain_gradient)


def test_without_the_forbidden_ids_the_probabilities_sum_to_one(policy: Policy) -> None:
    groups = real_groups(policy)[:1]
    vocabulary = policy.body.config.text_config.vocab_size
    allowed = [token for token in range(vocabulary) if token not in policy.forbidden_ids]
    one_each = tuple(TrainingResponse((token,), (0.0,), (0.0,)) for token in allowed)
    size = policy.body.config.vision_config.image_size
    batch = pack(
        [TrainingGroup(groups[0].images, groups[0].prompt_ids, one_each)],
        lambda _: {"pixel_values": torch.zeros(6, 3, size, size)},
        pad_id=0,
        shared_prefix=True,
    )
    with torch.no_grad():
        probabilities = policy(batch)[0].exp()[:, 0]
    assert float(probabilities.sum()) == pytest.approx(1.0, abs=1e-5)
    assert policy.body.config.image_token_id in policy.forbidden_ids
