"""Our advantages, returns and KL controller against the definitions of verl 0.10 and OpenRLHF 0.11.

As in test_peer_formulas.py nothing of ours is called on a peer's side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from policies.advantages import overlong_share
from policies.algorithms.algorithm import Rows, Scored
from policies.kl import adapted_weight
from tests.algorithms import algorithm
from tests.ranks import alone

# --- advantages within a group ----------------------------------------------------------------------------------------


def standard_scores(epsilon: float) -> Callable[[list[float]], list[float]]:
    return lambda rewards: [
        (reward - statistics.fmean(rewards)) / (statistics.stdev(rewards) + epsilon) for reward in rewards
    ]


def less_the_mean(rewards: list[float]) -> list[float]:
    return [reward - sum(rewards) / len(rewards) for reward in rewards]


def verl_rloo(rewards: list[float]) -> list[float]:
    n = len(rewards)
    return [reward * n / (n - 1) - sum(rewards) / n * n / (n - 1) for reward in rewards]


def openrlhf_rloo(rewards: list[float]) -> list[float]:
    return [reward - (sum(rewards) - reward) / (len(rewards) - 1) for reward in rewards]


GROUPS: list[tuple[str, Callable[[list[float]], list[float]], dict[str, Any]]] = [
    ("verl GRPO, DAPO, GSPO, CISPO", standard_scores(1e-6), {"name": "grpo"}),
    ("OpenRLHF group_norm", standard_scores(1e-9), {"name": "grpo", "advantage_epsilon": 1e-9}),
    ("verl, OpenRLHF Dr. GRPO", less_the_mean, {"name": "dr_grpo"}),
    ("verl RLOO", verl_rloo, {"name": "rloo"}),
    ("OpenRLHF RLOO", openrlhf_rloo, {"name": "rloo"}),
]
REWARDS = [[0.0, 1.0], [0.1, 0.1, 0.1], [0.0] * 8, [0.3, 0.7, 0.7, 1.0], [0.5, 0.5 + 1e-5], [1.0, *[0.0] * 7]]


@pytest.mark.parametrize("rewards", REWARDS, ids=str)
@pytest.mark.parametrize(("theirs", "keys"), [case[1:] for case in GROUPS], ids=[case[0] for case in GROUPS])
def test_the_advantages_of_a_group_are_the_peers(
    theirs: Callable[[list[float]], list[float]], keys: dict[str, Any], rewards: list[float]
) -> None:
    credits = algorithm(**keys).credits([Scored(reward, 1) for reward in rewards])
    assert [one for (one,) in credits] == pytest.approx(theirs(rewards), rel=1e-6, abs=1e-7)


@pytest.mark.parametrize("length", [1, 16383, 16384, 16385, 18000, 20479, 20480])
def test_the_punishment_of_length_is_dapos_in_both_peers(length: int) -> None:
    cap, buffer = 20480, 4096
    theirs = -min(0.0, -(length - (cap - buffer)) / buffer * 1.0)
    assert overlong_share(length, cap, buffer / cap) == pytest.approx(theirs)


# --- advantages over a batch ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Played:
    """A response as the peers credit it: one number for each token, and its reward."""

    group: int
    reward: float
    own: tuple[float, ...]
    ref: tuple[float, ...]
    values: tuple[float, ...]


def played(seed: int) -> list[Played]:
    """Four groups of three; the second has equal rewards, and some responses are of one token."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(length: int, scale: float = 1.0) -> tuple[float, ...]:
        return tuple((scale * torch.randn(length, generator=generator)).tolist())

    rows = []
    for index in range(12):
        length = 1 if index % 5 == 0 else int(torch.randint(2, 9, (), generator=generator))
        reward = 0.5 if index // 3 == 1 else abs(drawn(1)[0]) % 1.0
        own = drawn(length)
        ref = tuple(a + b for a, b in zip(own, drawn(length, 0.8), strict=True))
        rows.append(Played(index // 3, reward, own, ref, drawn(length)))
    return rows


KL: dict[str, Callable[[float, float], float]] = {
    "k1": lambda own, ref: own - ref,
    "k2": lambda own, ref: (own - ref) ** 2 / 2,
    "k3": lambda own, ref: min(math.exp(ref - own) - (ref - own) - 1, 10.0),
}


def paid(rows: list[Played], beta: float, estimator: str = "k1") -> list[list[float]]:
    """Each token's reward: minus its KL, and the response's reward at its end."""
    found = [[-beta * KL[estimator](a, b) for a, b in zip(row.own, row.ref, strict=True)] for row in rows]
    for row, tokens in zip(rows, found, strict=True):
        tokens[-1] += row.reward
    return found


def later(tokens: list[float], gamma: float = 1.0) -> list[float]:
    return [sum(gamma ** (k - t) * tokens[k] for k in range(t, len(tokens))) for t in range(len(tokens))]


def whitened_over(rows: list[list[float]], ddof: int) -> list[float]:
    """verl divides by the sample's deviation (ddof 1), OpenRLHF by the population's (ddof 0)."""
    flat = [value for row in rows for value in row]
    mean = sum(flat) / len(flat)
    variance = sum((value - mean) ** 2 for value in flat) / (len(flat) - ddof)
    return [(value - mean) / math.sqrt(variance) for value in flat]


def reinforce_pp(rows: list[Played], ddof: int, beta: float, estimator: str, gamma: float) -> list[float]:
    return whitened_over([later(tokens, gamma) for tokens in paid(rows, beta, estimator)], ddof)


def less_their_groups_mean(rows: list[Played]) -> list[Played]:
    means = {row.group: statistics.fmean(r.reward for r in rows if r.group == row.group) for row in rows}
    return [replace(row, reward=row.reward - means[row.group]) for row in rows]


def baseline(rows: list[Played], ddof: int, beta: float, estimator: str, gamma: float) -> list[float]:
    return reinforce_pp(less_their_groups_mean(rows), ddof, beta, estimator, gamma)


def gae(rows: list[Played], beta: float, estimator: str, gamma: float, trace: float) -> list[list[float]]:
    found = []
    for row, tokens in zip(rows, paid(rows, beta, estimator), strict=True):
        following = [*row.values[1:], 0.0]
        errors = [r + gamma * v_next - v for r, v, v_next in zip(tokens, row.values, following, strict=True)]
        found.append(later(errors, gamma * trace))
    return found


def credited(rows: list[Played], method: Any) -> tuple[list[float], list[float]]:
    """Our advantages and returns of all tokens."""
    credits: list[tuple[float, ...]] = []
    for number in range(4):
        credits += method.credits([Scored(row.reward, len(row.own)) for row in rows if row.group == number])

    def padded(of_rows: Iterable[Sequence[float]]) -> Tensor:
        return pad_sequence([torch.tensor(row) for row in of_rows], batch_first=True)

    mask = padded([1.0] * len(row.own) for row in rows)
    own, ref, values = (padded(getattr(row, field) for row in rows) for field in ("own", "ref", "values"))
    found = method.advantages(Rows(padded(credits), mask, own, ref, values), method.kl_beta, alone)
    returns = [] if found.returns_R_T is None else found.returns_R_T[mask > 0].tolist()
    return found.advantages_R_T[mask > 0].tolist(), returns


def by_deviation(ours: list[float], ddof: int) -> list[float]:
    """Ours with another deviation's count of tokens: we divide by the sample's, which no setting changes."""
    return [a * math.sqrt((len(ours) - ddof) / (len(ours) - 1)) for a in ours]


TOKENS: list[tuple[str, Callable[..., list[float]], dict[str, Any]]] = [
    ("REINFORCE++", reinforce_pp, {"name": "reinforce_pp", "kl_beta": 0.1}),
    ("REINFORCE++ with k2", reinforce_pp, {"name": "reinforce_pp", "kl_beta": 0.1, "kl_estimator": "k2"}),
    ("REINFORCE++ with k3", reinforce_pp, {"name": "reinforce_pp", "kl_beta": 0.1, "kl_estimator": "k3"}),
    ("REINFORCE++, discounted", reinforce_pp, {"name": "reinforce_pp", "kl_beta": 0.1, "discount": 0.9}),
    ("REINFORCE++-baseline", baseline, {"name": "reinforce_pp_baseline"}),
    (
        "REINFORCE++-baseline, KL in the reward",  # OpenRLHF; verl centres what is left after the KL
        baseline,
        {"name": "reinforce_pp_baseline", "kl_in": "reward", "kl_estimator": "k1", "kl_beta": 0.1},
    ),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ddof", [1, 0], ids=["verl", "OpenRLHF"])
@pytest.mark.parametrize(("theirs", "keys"), [case[1:] for case in TOKENS], ids=[case[0] for case in TOKENS])
def test_the_advantages_over_a_batch_are_the_peers(
    theirs: Callable[..., list[float]], keys: dict[str, Any], ddof: int, seed: int
) -> None:
    method, rows = algorithm(**keys), played(seed)
    settings = method.settings
    beta = settings.kl_beta if settings.kl_in == "reward" else 0.0
    ours, _ = credited(rows, method)
    expected = theirs(rows, ddof, beta, settings.kl_estimator, settings.discount)
    assert by_deviation(ours, ddof) == pytest.approx(expected, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ddof", [1, 0], ids=["verl", "OpenRLHF"])
@pytest.mark.parametrize(("gamma", "trace"), [(1.0, 1.0), (1.0, 0.95), (0.9, 0.7)])
def test_generalised_advantages_and_returns_are_the_peers(gamma: float, trace: float, ddof: int, seed: int) -> None:
    rows = played(seed)
    ours, returns = credited(rows, algorithm("ppo", kl_beta=0.1, discount=gamma, trace=trace))
    raw = gae(rows, 0.1, "k1", gamma, trace)
    assert by_deviation(ours, ddof) == pytest.approx(whitened_over(raw, ddof), rel=1e-5, abs=1e-5)
    gained = [a + v for row, tokens in zip(rows, raw, strict=True) for a, v in zip(tokens, row.values, strict=True)]
    assert returns == pytest.approx(gained, rel=1e-5, abs=1e-5)


def test_the_adaptive_weight_of_the_kl_moves_as_in_both_peers() -> None:
    ours = theirs = 0.001
    for kl, responses in [(0.5, 1024), (0.11, 512), (0.0, 64), (0.1, 64), (-0.3, 1024)]:
        theirs *= 1 + max(-0.2, min(0.2, kl / 0.1 - 1)) * responses / 10_000
        ours = adapted_weight(ours, kl, responses, target=0.1, horizon=10_000)
        assert ours == pytest.approx(theirs, rel=1e-12)
