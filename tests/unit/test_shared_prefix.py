"""A group that shares its prompt in one row gives the log-probabilities and gradients of row by row, in each family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from data.rendered import rendered_samples
from policies.batch import TrainingGroup, TrainingResponse, pack
from policies.model import Policy, load_policy, load_processor
from policies.prompt import PromptEncoder, image_paths
from policies.settings import PolicySettings
from policies.tiny import build_tiny_policy
from tests.families import tiny_qwen2_5_vl, tiny_smolvlm

SETTINGS = PolicySettings(image_size=(64, 48))
LENGTHS = ((3, 1, 6), (2, 4))


@pytest.fixture(scope="module", params=[build_tiny_policy, tiny_qwen2_5_vl, tiny_smolvlm], ids=lambda f: f.__name__)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    build: Callable[[Path], Path] = request.param
    return build(tmp_path_factory.mktemp("family") / "model")


@pytest.fixture(scope="module")
def encoder(folder: Path) -> PromptEncoder:
    return PromptEncoder(load_processor(folder, SETTINGS), SETTINGS)


@pytest.fixture(scope="module")
def policy(folder: Path) -> Policy:
    return load_policy(folder, SETTINGS, temperature=0.8)


@pytest.fixture(scope="module")
def groups(encoder: PromptEncoder, tmp_path_factory: pytest.TempPathFactory) -> list[TrainingGroup]:
    """Two prompts of unequal length, with six images each, and responses of unequal length."""
    samples = rendered_samples(tmp_path_factory.mktemp("scenes"), 1, seed=0)
    chosen = sorted(samples, key=lambda sample: len(sample.question))[:: len(samples) - 1]
    generator = torch.Generator().manual_seed(1)

    def response(length: int) -> TrainingResponse:
        ids = tuple(torch.randint(10, 200, (length,), generator=generator).tolist())
        return TrainingResponse(ids, (0.0,) * length, (float(length),) * length)

    return [
        TrainingGroup(image_paths(sample), encoder.prompt_ids(sample), tuple(response(n) for n in lengths))
        for sample, lengths in zip(chosen, LENGTHS, strict=True)
    ]


def learnt(policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup], shared: bool) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the groups' responses, and the gradient of their sum weighted by the advantages."""
    batch = pack(
        groups, encoder.image_tensors, pad_id=0, shared_prefix=shared, prompt_positions=policy.prompt_positions
    )
    policy.zero_grad()
    logprobs = policy(batch)
    (logprobs * batch.mask_R_T * batch.advantages_R_T).sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])
    return (logprobs * batch.mask_R_T).detach(), gradient


def test_a_shared_prefix_changes_neither_log_probabilities_nor_gradients(
    policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    assert policy.shares_prefix
    assert len(groups[0].prompt_ids) != len(groups[1].prompt_ids)
    shared, shared_gradient = learnt(policy, encoder, groups, shared=True)
    plain, plain_gradient = learnt(policy, encoder, groups, shared=False)
    torch.testing.assert_close(shared, plain, rtol=0, atol=1e-5)
    assert float((shared_gradient - plain_gradient).abs().max() / plain_gradient.abs().max()) < 1e-5


def test_the_images_reach_the_log_probabilities(
    policy: Policy, encoder: PromptEncoder, groups: list[TrainingGroup]
) -> None:
    other = [TrainingGroup(group.images[::-1], group.prompt_ids, group.responses) for group in groups]
    ours, theirs = (learnt(policy, encoder, some, shared=True)[0] for some in (groups, other))
    assert float((ours - theirs).abs().max()) > 1e-4
