"""Our losses against the definitions of verl 0.10 and OpenRLHF 0.11, each written out token by token in float64.

Nothing of ours is called on a peer's side. What a peer sets by default is set here; docs/learning.md says where no
setting of ours gives what a peer does. test_peer_advantages.py has the advantages, test_peers.py TRL's own code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from policies.losses import GlobalCounts, PolicyLossInput, value_loss
from tests.algorithms import algorithm

R, T = 9, 12
BATCHES = [(0, 1e-4), (1, 0.1), (2, 0.4), (3, 1.0), (4, 3.0)]
"""Seed and spread of the log-ratios: from all inside the clip to most beyond it."""

# --- the policy loss of one token -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """What a peer knows of a token that counts; each a scalar, and only the first carries a gradient."""

    lp: Tensor
    old: Tensor
    roll: Tensor
    ref: Tensor
    advantage: Tensor


Response = list[Token]


def clip(x: Tensor, low: float, high: float) -> Tensor:
    return x.new_tensor(low) if x < low else x.new_tensor(high) if x > high else x


def pessimistic(ratio: Tensor, advantage: Tensor, low: float, high: float, dual: float | None = None) -> Tensor:
    gain, clipped_gain = ratio * advantage, clip(ratio, 1 - low, 1 + high) * advantage
    worse = gain if gain < clipped_gain else clipped_gain
    if dual is not None and advantage < 0 and worse < dual * advantage:
        worse = dual * advantage
    return -worse


def token_ratio(token: Token) -> Tensor:
    return torch.exp(clip(token.lp - token.old, -20, 20))  # verl and OpenRLHF


def mean_log_ratio(response: Response) -> Tensor:
    return sum((token.lp - token.old for token in response), torch.tensor(0.0)) / len(response)


def verl_vanilla(low: float = 0.2, high: float = 0.2, dual: float = 3.0) -> Callable[[Token, Response], Tensor]:
    return lambda token, response: pessimistic(token_ratio(token), token.advantage, low, high, dual)


def verl_gspo(token: Token, response: Response) -> Tensor:
    log_ratio = mean_log_ratio(response).detach() + token.lp - token.lp.detach()
    return pessimistic(torch.exp(log_ratio if log_ratio < 10 else log_ratio.new_tensor(10.0)), token.advantage, *GSPO)


def verl_cispo(token: Token, response: Response) -> Tensor:
    return -clip(token_ratio(token), 0.8, 1.2).detach() * token.advantage * token.lp


def openrlhf_ppo(dual: float | None = None, high: float = 0.2) -> Callable[[Token, Response], Tensor]:
    return lambda token, response: pessimistic(token_ratio(token), token.advantage, 0.2, high, dual)


def openrlhf_gspo(token: Token, response: Response) -> Tensor:
    return pessimistic(torch.exp(mean_log_ratio(response)), token.advantage, *GSPO)


GSPO = (3e-4, 4e-4)

# --- importance weights and KL of one token ---------------------------------------------------------------------------


def no_weight(token: Token) -> float:
    return 1.0


def verl_tis(token: Token) -> float:
    return min(math.exp(token.old - token.roll), 2.0)


def openrlhf_tis(token: Token) -> float:
    return min(max(math.exp(token.old - token.roll), 0.5), 5.0)


def icepop(low: float, high: float) -> Callable[[Token], float]:  # the same in verl (`0.5_2.0`) and OpenRLHF
    def weight(token: Token) -> float:
        own = math.exp(token.old - token.roll)
        return own if low <= own <= high else 0.0

    return weight


def k1(token: Token) -> Tensor:
    return token.lp - token.ref


def k2(token: Token) -> Tensor:
    return (token.lp - token.ref) ** 2 / 2


def k3(token: Token) -> Tensor:
    return clip(torch.exp(token.ref - token.lp) - (token.ref - token.lp) - 1, -10, 10)


# --- the mean over a batch --------------------------------------------------------------------------------------------


def token_mean(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([value for row in rows for value in row]).sum() / sum(map(len, rows))


def seq_mean_token_mean(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.stack([*row]).sum() / len(row) for row in rows]).sum() / len(rows)


def seq_mean_token_sum(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    return torch.stack([torch.stack([*row]).sum() for row in rows]).sum() / len(rows)


def seq_mean_token_sum_norm(rows: Sequence[Sequence[Tensor]]) -> Tensor:
    return seq_mean_token_sum(rows) / T  # verl: the width of the padded responses


@dataclass(frozen=True)
class Peer:
    """A peer's loss: mean of (surrogate x weight) + beta mean of KL."""

    surrogate: Callable[[Token, Response], Tensor]
    mean: Callable[[Sequence[Sequence[Tensor]]], Tensor] = token_mean
    weight: Callable[[Token], float] = no_weight
    kl: Callable[[Token], Tensor] | None = None
    beta: float = 0.0

    def loss(self, responses: Sequence[Response]) -> Tensor:
        own = self.mean([[self.surrogate(token, row) * self.weight(token) for token in row] for row in responses])
        return own if self.kl is None else own + self.beta * self.mean([[*map(self.kl, row)] for row in responses])


BOTH: dict[str, Any] = {"aggregation": "token-mean", "importance": "none", "kl_beta": 0.0}
"""Both peers' defaults, as we name them; verl always clips twice."""
VERL = {**BOTH, "dual_clip": 3.0}
GSPO_KEYS = {**BOTH, "name": "gspo", "aggregation": "seq-mean"}
RFPP_BASELINE = {"name": "reinforce_pp_baseline", "importance": "none"}
BOUNDS = {"importance_floor": 0.5, "importance_cap": 5.0}
LOSSES: list[tuple[str, Peer, dict[str, Any]]] = [
    ("verl PPO, GRPO", Peer(verl_vanilla()), VERL),
    ("verl k3 in the loss", Peer(verl_vanilla(), kl=k3, beta=0.001), {**VERL, "kl_beta": 0.001}),
    ("verl k2 in the loss", Peer(verl_vanilla(), kl=k2, beta=0.1), {**VERL, "kl_beta": 0.1, "kl_estimator": "k2"}),
    ("verl k1 in the loss", Peer(verl_vanilla(), kl=k1, beta=0.1), {**VERL, "kl_beta": 0.1, "kl_estimator": "k1"}),
    ("verl seq-mean-token-mean", Peer(verl_vanilla(), seq_mean_token_mean), {**VERL, "aggregation": "seq-mean"}),
    ("verl seq-mean-token-sum", Peer(verl_vanilla(), seq_mean_token_sum), {**VERL, "aggregation": "token-sum"}),
    ("verl Dr. GRPO", Peer(verl_vanilla(), seq_mean_token_sum_norm), {**VERL, "aggregation": "token-sum-norm"}),
    ("verl DAPO", Peer(verl_vanilla(0.2, 0.28, 10.0)), {**BOTH, "name": "dapo", "dual_clip": 10.0}),
    ("verl GSPO", Peer(verl_gspo, seq_mean_token_mean), GSPO_KEYS),
    ("verl CISPO", Peer(verl_cispo), {**BOTH, "name": "cispo", "clip_low": 0.2, "clip_high": 0.2}),
    ("verl TIS", Peer(verl_vanilla(), weight=verl_tis), {**VERL, "importance": "truncate"}),
    (
        "verl TIS, k3",
        Peer(verl_vanilla(), weight=verl_tis, kl=k3, beta=0.1),
        {**VERL, "importance": "truncate", "kl_beta": 0.1},
    ),
    ("verl IcePop", Peer(verl_vanilla(), weight=icepop(0.5, 2.0)), {**VERL, "importance": "mask"}),
    ("OpenRLHF PPO", Peer(openrlhf_ppo()), BOTH),
    ("OpenRLHF dual clip", Peer(openrlhf_ppo(dual=3.0)), {**BOTH, "dual_clip": 3.0}),
    ("OpenRLHF DAPO", Peer(openrlhf_ppo(high=0.28)), {**BOTH, "name": "dapo"}),
    ("OpenRLHF k2 in the loss", Peer(openrlhf_ppo(), kl=k2, beta=0.01), RFPP_BASELINE),
    ("OpenRLHF k3 in the loss", Peer(openrlhf_ppo(), kl=k3, beta=0.01), {**BOTH, "kl_beta": 0.01}),
    ("OpenRLHF GSPO", Peer(openrlhf_gspo, seq_mean_token_mean), GSPO_KEYS),
    ("OpenRLHF TIS", Peer(openrlhf_ppo(), weight=openrlhf_tis), {**BOTH, "importance": "bound", **BOUNDS}),
    ("OpenRLHF IcePop", Peer(openrlhf_ppo(), weight=icepop(0.5, 5.0)), {**BOTH, "importance": "mask", **BOUNDS}),
]


def make_batch(seed: int, spread: float) -> PolicyLossInput:
    """Ragged: one response of a single token, one with holes, one masked whole, one whose advantages are 0."""
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return scale * torch.randn(R, T, generator=generator, dtype=torch.float64)

    lengths = torch.randint(2, T + 1, (R, 1), generator=generator)
    mask = (torch.arange(T) < lengths).double()
    mask[0, 1:] = 0.0
    mask[1] = torch.tensor([1.0, 0.0, 1.0] * (T // 3))
    mask[2] = 0.0
    advantages = noise(1.0)
    advantages[3] = 0.0
    lp = -torch.rand(R, T, generator=generator, dtype=torch.float64) * 3
    old = lp + noise(spread)
    return PolicyLossInput(
        lp.requires_grad_(), old.detach(), (old + noise(0.8)).detach(), (lp + noise(0.8)).detach(), advantages, mask
    )


def responses_of(batch: PolicyLossInput) -> list[Response]:
    columns = (
        batch.logprobs_R_T,
        batch.old_logprobs_R_T,
        batch.rollout_logprobs_R_T,
        batch.reference_logprobs_R_T,
        batch.advantages_R_T,
    )
    rows = [
        [Token(*(column[r, t] for column in columns if column is not None)) for t in range(T) if batch.mask_R_T[r, t]]
        for r in range(R)
    ]
    return [row for row in rows if row]


def counts(batch: PolicyLossInput) -> GlobalCounts:
    lengths = batch.mask_R_T.sum(dim=1)
    return GlobalCounts(int((lengths > 0).sum()), int(lengths.sum()), T)


def assert_same(ours: Tensor, theirs: Tensor, variable: Tensor) -> None:
    """The same loss and the same gradient, element by element."""
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)
    own, other = (torch.autograd.grad(loss, variable)[0] for loss in (ours, theirs))
    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-12)
    assert own.any()


@pytest.mark.parametrize(("seed", "spread"), BATCHES)
@pytest.mark.parametrize(("peer", "keys"), [case[1:] for case in LOSSES], ids=[case[0] for case in LOSSES])
def test_the_policy_loss_and_its_gradient_are_the_peers(
    peer: Peer, keys: dict[str, Any], seed: int, spread: float
) -> None:
    method, batch = algorithm(**keys), make_batch(seed, spread)
    if keys.get("name") == "gspo":  # whose tokens share one advantage
        batch = replace(batch, advantages_R_T=batch.advantages_R_T[:, :1].expand(R, T))
    seen = batch if method.settings.kl_beta else replace(batch, reference_logprobs_R_T=None)
    assert_same(method.loss(seen, counts(batch)).loss, peer.loss(responses_of(batch)), batch.logprobs_R_T)


def test_a_log_ratio_beyond_20_has_the_peers_loss_and_no_gradient() -> None:
    batch = make_batch(5, 0.1)
    far = torch.where(torch.arange(R)[:, None] == 4, batch.logprobs_R_T.detach() - 25, batch.old_logprobs_R_T)
    batch = replace(batch, old_logprobs_R_T=far, advantages_R_T=-batch.advantages_R_T.abs())
    ours = algorithm(**BOTH).loss(replace(batch, reference_logprobs_R_T=None), counts(batch)).loss
    assert_same(ours, Peer(openrlhf_ppo()).loss(responses_of(batch)), batch.logprobs_R_T)


@pytest.mark.parametrize("seed", range(3))
def test_weights_of_a_sequence_ratio_share_out_their_gradient_as_trl_does_and_add_up_to_verls(seed: int) -> None:
    """verl weighs each token's share of the sequence's gradient by itself; here, as in TRL, tokens share the mean."""
    batch = make_batch(seed, 0.1)
    method = algorithm(**{**GSPO_KEYS, "importance": "truncate"})
    ours = method.loss(replace(batch, reference_logprobs_R_T=None), counts(batch)).loss
    theirs = Peer(verl_gspo, seq_mean_token_mean, verl_tis).loss(responses_of(batch))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-12)
    own, other = (torch.autograd.grad(loss, batch.logprobs_R_T)[0].sum(dim=1) for loss in (ours, theirs))
    torch.testing.assert_close(own, other, rtol=1e-6, atol=1e-12)


# --- the critic's loss ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit", [0.5, None], ids=["verl, OpenRLHF", "OpenRLHF without a clip"])
def test_the_value_loss_and_its_gradient_are_the_peers(limit: float | None, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    old, returns, step = (torch.randn(R, T, generator=generator, dtype=torch.float64) for _ in range(3))
    values, batch = (old + 0.7 * step).requires_grad_(), make_batch(seed, 0.1)
    rows = []
    for r, t in batch.mask_R_T.nonzero().tolist():
        error = (values[r, t] - returns[r, t]) ** 2
        if limit is not None:
            near = clip(values[r, t], float(old[r, t]) - limit, float(old[r, t]) + limit)
            error = max(error, (near - returns[r, t]) ** 2)
        rows.append([0.5 * error])
    settings = algorithm("ppo", value_clip=math.inf if limit is None else limit).settings
    ours = value_loss(values, old, returns, batch.mask_R_T, settings.value_clip, counts(batch)).loss
    assert_same(ours, token_mean(rows), values)
