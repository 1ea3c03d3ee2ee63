"""Datums packed together give the losses, log-probabilities and gradients that each gives alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from policies.datums import Datum, grouped, pack_datums, shares_of, unpack
from policies.errors import BudgetError, PolicyError
from policies.losses import GlobalCounts, PolicyLossInput, clipped_surrogate, weighted_surrogate
from policies.micro_batches import MicroBatchLimits
from policies.model import Policy, load_policy, load_processor
from policies.prompt import PromptEncoder
from policies.settings import LoraSettings, PolicySettings
from policies.summed_losses import LOSSES, SummedLoss, summed_loss
from policies.tiny import build_tiny_policy
from policies.views import View

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Policy, PromptEncoder, Path]:
    folder = build_tiny_policy(tmp_path_factory.mktemp("policy") / "tiny", seed=3)
    settings = PolicySettings(model=str(folder), lora=LoraSettings(rank=4), image_size=(32, 32))
    torch.manual_seed(0)
    policy = load_policy(folder, settings, 1.0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if ".lora_B." in name:  # which begin at zero: then nothing of A could be seen
                parameter.normal_(0.0, 0.05)
    return policy, PromptEncoder(load_processor(folder, settings), settings), folder


def frames(folder: Path, count: int) -> tuple[View, ...]:
    views = []
    for number in range(count):
        path = folder.parent / f"frame{number}.png"
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        views.append(View("IMAGE", str(path)))
    return tuple(views)


def batch_of(folder: Path, image_id: int) -> list[Datum]:
    """Three responses to one prompt of two images, a supervised text with two targets a position, a lone token."""
    draw = np.random.default_rng(7)
    views = frames(folder, 2)
    prompt = (1, 40, *[image_id] * 4, 41, *[image_id] * 4, *draw.integers(40, 200, 20).tolist())
    datums = []
    for length in (3, 6, 1):
        answer = draw.integers(40, 200, length).tolist()
        before = len(prompt) - 1
        credits = np.concatenate([np.zeros(before), draw.normal(size=length)]).astype(np.float32)[:, None]
        logprobs = np.where(credits != 0, draw.normal(-6, 0.5, credits.shape), 0).astype(np.float32)
        targets = np.array([0] * before + answer)[:, None]
        datums.append(Datum(views, (*prompt, *answer[:-1]), 11, targets, credits, logprobs))
    shape = (9, 2)
    words = tuple(draw.integers(40, 200, 9).tolist())
    logprobs = draw.normal(-6, 0.5, shape).astype(np.float32)
    datums.append(Datum((), words, 1, draw.integers(40, 200, shape), np.ones(shape, np.float32), logprobs))
    datums.append(Datum((), (50,), 1, np.array([[51]]), np.ones((1, 1), np.float32), -6 * np.ones((1, 1), np.float32)))
    return datums


def alone(policy: Policy, encoder: PromptEncoder, datum: Datum) -> torch.Tensor:
    """Log-probabilities (N, K) of one datum, straight from the model."""
    ids = torch.tensor([datum.token_ids])
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **encoder.image_tensors(datum.images)}
    hidden = policy.body.model(**inputs, use_cache=False).last_hidden_state[0]
    logits = policy.body.lm_head(hidden).float()
    logits[:, policy.forbidden_ids] = -torch.inf
    return logits.log_softmax(-1).gather(1, torch.from_numpy(np.array(datum.targets_N_K)))


def written_out(name: str, logprobs: torch.Tensor, datum: Datum) -> torch.Tensor:
    """The loss of one datum, by the formulas of `policies.losses`."""
    credits, old = torch.from_numpy(datum.credits_N_K), torch.from_numpy(datum.logprobs_N_K)
    if name == "cross_entropy":
        return -(logprobs * credits).sum()
    ratio = (logprobs - old).exp()
    if name == "gspo":
        taught = (credits != 0).float()
        means = ((logprobs - old) * taught).sum(0, keepdim=True) / taught.sum(0, keepdim=True).clamp(min=1)
        ratio = means.exp().expand_as(ratio)
    losses = {
        "importance_sampling": -ratio * credits,
        "ppo": clipped_surrogate(ratio, credits, 0.2, 0.2),
        "gspo": clipped_surrogate(ratio, credits, 0.2, 0.2),
        "cispo": weighted_surrogate(ratio, credits, logprobs, 0.2, 0.2),
    }
    return losses[name].where(credits != 0, 0.0).sum()


def gradients(policy: Policy) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    return found


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shared", [True, False])
def test_packed_datums_give_the_losses_and_gradients_of_each_alone(
    model: tuple[Policy, PromptEncoder, Path], name: str, shared: bool
) -> None:
    policy, encoder, folder = model
    datums = batch_of(folder, policy.forbidden_ids[0])
    if name == "gspo":  # whose ratio is of a sequence: one column of targets
        datums = [datum for datum in datums if datum.targets_N_K.shape[1] == 1]
    expected = [alone(policy, encoder, datum) for datum in datums]
    total = sum(written_out(name, row, datum) for row, datum in zip(expected, datums, strict=True))
    assert isinstance(total, torch.Tensor)
    total.backward()
    wanted = gradients(policy)

    loss, seen, value = (
        summed_loss(name, {}),
        {i: np.zeros(d.targets_N_K.shape, np.float32) for i, d in enumerate(datums)},
        0.0,
    )
    limits = MicroBatchLimits(groups=2, shared_prefix=shared)
    for share in shares_of(datums, 2, limits):
        for groups in share.micro_batches:
            batch, readings = pack_datums(
                groups, share.datums, encoder.image_tensors, pad_id=0, shared_prefix=shared,
                prompt_positions=policy.prompt_positions,
            )  # fmt: skip
            logprobs, _ = policy(batch, loss.temperature)
            rollout = batch.rollout_logprobs_R_T
            given = PolicyLossInput(logprobs, logprobs.detach(), rollout, None, batch.credits_R_T, batch.mask_R_T)
            result = loss.loss(given, GlobalCounts(1, 1))
            result.loss.backward()
            value += float(result.loss.detach())
            unpack(logprobs, readings, seen)
    assert value == pytest.approx(float(total.detach()), rel=TOLERANCE, abs=TOLERANCE)
    for row, datum in zip(expected, seen.values(), strict=True):
        np.testing.assert_allclose(datum, row.detach().numpy(), atol=TOLERANCE * 5)
    found = gradients(policy)
    assert found.keys() == wanted.keys()
    largest = max(float(tensor.abs().max()) for tensor in wanted.values())
    for key, tensor in wanted.items():
        torch.testing.assert_close(found[key], tensor, rtol=TOLERANCE * 10, atol=TOLERANCE * largest)


def test_responses_to_one_prompt_share_its_row_and_others_do_not(model: tuple[Policy, PromptEncoder, Path]) -> None:
    policy, _, folder = model
    groups = grouped(batch_of(folder, policy.forbidden_ids[0]), shared=True)
    assert [len(group.responses) for group in groups] == [3, 1, 1]
    assert len(grouped(batch_of(folder, policy.forbidden_ids[0]), shared=False)) == 5


def test_a_datum_beyond_the_limit_on_positions_is_refused(model: tuple[Policy, PromptEncoder, Path]) -> None:
    policy, _, folder = model
    with pytest.raises(BudgetError, match="learner.micro_batch_tokens=20"):
        shares_of(batch_of(folder, policy.forbidden_ids[0]), 1, MicroBatchLimits(groups=2, tokens=20))


@pytest.mark.parametrize(
    ("name", "config", "said"),
    [
        (
            "dro",
            {},
            "loss_fn 'dro' is not served here; served are cross_entropy, importance_sampling, ppo, cispo, gspo",
        ),
        ("ppo", {"beta": 0.1}, "ppo has no option 'beta'; it has clip_low_threshold"),
        ("ppo", {"clip_low_threshold": 1.5}, "must hold 1 between its thresholds"),
        ("cross_entropy", {"temperature": "hot"}, "temperature must be a number above 0, got 'hot'"),
        ("cross_entropy", {"temperature": float("nan")}, "temperature must be a number above 0"),
    ],
)
def test_a_loss_that_is_not_served_is_refused_by_name(name: str, config: dict[str, float | str], said: str) -> None:
    with pytest.raises(PolicyError, match=said):
        summed_loss(name, config)


def test_the_clips_bounds_are_ratios() -> None:
    assert summed_loss("ppo", {"clip_low_threshold": 0.7, "clip_high_threshold": 1.5}) == SummedLoss("ppo", 0.7, 1.5)
