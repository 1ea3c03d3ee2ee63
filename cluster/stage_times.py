"""How long the stages of a step take: arithmetic over tokens, FLOP and bytes. Imports no torch.

Sources: FLOP of transformers as in arXiv 2001.08361 (2 for each weight a token is multiplied by) with attention over
the pairs that are seen; decoding by the bytes it reads at each token; efficiencies from `facts.yaml`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from cluster.architecture import Architecture
from cluster.facts import Facts, NodeType

QUANTILES = 64
SPREAD = 0.8
"""Standard deviation of response lengths over their mean: between that of a fixed length and an exponential one."""
_NORMAL = [NormalDist().inv_cdf((i + 0.5) / QUANTILES) for i in range(QUANTILES)]


@dataclass(frozen=True, slots=True)
class Work:
    """What one step is made of."""

    prompts: int
    group_size: int
    images: int
    image_tokens: int
    text_tokens: int
    lengths: tuple[int, ...]
    """Quantiles of the lengths of responses, ascending."""

    @property
    def responses(self) -> int:
        """All of a step."""
        return self.prompts * self.group_size

    @property
    def prompt(self) -> int:
        """Tokens of a prompt."""
        return self.images * self.image_tokens + self.text_tokens

    @property
    def mean(self) -> float:
        """Tokens of a response."""
        return sum(self.lengths) / len(self.lengths)


@dataclass(frozen=True, slots=True)
class Chips:
    """The GPUs of one process group."""

    node: NodeType
    count: int

    @property
    def peak(self) -> float:
        """FLOP a second of all of them."""
        return self.count * self.node.tflops * 1e12

    @property
    def bandwidth(self) -> float:
        """Bytes a second from the memory of all of them."""
        return self.count * self.node.memory_gbps * 1e9

    def link(self, facts: Facts) -> float:
        """Bytes a second between two of them: within the node, or over the network where they are on several."""
        inside = self.count <= self.node.gpus
        return facts.efficiency("link") * (self.node.link_gbps if inside else self.node.network_gbit / 8) * 1e9


@dataclass(frozen=True, slots=True)
class Lengths:
    """A lognormal spread of lengths with a mean, cut at a cap."""

    scale: float
    sigma: float
    most: int

    def at(self, z: float) -> float:
        """The length that lies `z` standard deviations of the logarithm above its middle."""
        return min(self.most, max(1.0, self.scale * math.exp(self.sigma * z)))


def spread_of(mean: float, most: int, spread: float = SPREAD) -> Lengths:
    """Lengths with this mean though they are cut at `most`; `spread` is their standard deviation over the mean."""
    sigma = math.sqrt(math.log(1 + spread**2))
    low, high = 1.0, 64.0 * max(mean, 1.0)
    for _ in range(60):
        scale = (low + high) / 2
        cut = [Lengths(scale, sigma, most).at(z) for z in _NORMAL]
        low, high = (scale, high) if sum(cut) / QUANTILES < mean else (low, scale)
    return Lengths(scale, sigma, most)


def lengths_of(mean: float, most: int) -> tuple[int, ...]:
    """Quantiles of response lengths: lognormal with `SPREAD`, cut at the cap, its scale set so that the mean holds."""
    lengths = spread_of(mean, most)
    return tuple(round(lengths.at(z)) for z in _NORMAL)


def attention_pairs(prompt: int, lengths: Sequence[float], *, shared: bool) -> float:
    """Pairs of positions of which one sees the other: the prompt once where it is shared, else for each response."""
    own = sum(length * prompt + length * (length + 1) / 2 for length in lengths)
    return own + prompt * (prompt + 1) / 2 * (1 if shared else len(lengths))


def pass_flop(
    model: Architecture, work: Work, lengths: Sequence[float], *, shared: bool = True, tower: bool = True
) -> float:
    """FLOP of a forward pass over one group."""
    prompts = 1 if shared else len(lengths)
    positions = prompts * work.prompt + sum(lengths)
    text = 2 * model.body * positions + 2 * model.head * sum(lengths)
    attention = 4 * model.heads * model.head_size * model.layers * attention_pairs(work.prompt, lengths, shared=shared)
    features = prompts * work.images * work.image_tokens
    return text + attention + 2 * (model.vision * tower + model.projector * tower) * features


def decode_step_s(
    model: Architecture, chips: Chips, facts: Facts, *, active: float, context: float, eager: bool, size: int = 2
) -> float:
    """Seconds of one token for each of `active` sequences that see `context` tokens each, weights in `size` bytes."""
    weights = size * (model.parameters - model.vision - model.embeddings)
    cache = size * model.cache_per_token * context * active
    read = (weights + cache) / (chips.bandwidth * facts.efficiency("decode_bandwidth"))
    computed = 2 * (model.body + model.head) * active / (chips.peak * facts.efficiency("prefill"))
    overhead = facts.efficiency("decode_overhead_eager_ms" if eager else "decode_overhead_ms") / 1e3
    return max(read, computed) + overhead


def generation_s(
    model: Architecture, work: Work, chips: Chips, engines: int, at_once: int, facts: Facts, *, eager: bool
) -> float:
    """Seconds until the last of a step's responses has ended, spread over engines of `chips` each.

    An engine first runs full, then drains: what is left after a length of tokens are the responses that are longer.
    """
    own = math.ceil(work.responses / engines)
    prefill = pass_flop(model, work, [1.0]) * math.ceil(work.prompts / engines)
    seconds = prefill / (chips.peak * facts.efficiency("prefill"))
    running = min(own, at_once)
    if own > running:
        step = decode_step_s(model, chips, facts, active=running, context=work.prompt + work.mean / 2, eager=eager)
        seconds += (own - running) * work.mean / running * step
    before = 0
    for index, length in enumerate(work.lengths):
        left = running * (len(work.lengths) - index) / len(work.lengths)
        step = decode_step_s(model, chips, facts, active=left, context=work.prompt + length, eager=eager)
        seconds += (length - before) * step
        before = length
    return seconds


def judging_s(
    judge: Architecture, work: Work, chips: Chips, engines: int, at_once: int, facts: Facts, *, rubric: int, reply: int
) -> tuple[float, float]:
    """Seconds that the judges need for a step's responses, and for the last of them alone.

    A rubric is in the prefix cache after its first use; an answer and its case are not.
    """
    fresh = work.mean + work.text_tokens
    own = math.ceil(work.responses / engines)
    per_token = 2 * (judge.body + judge.head / 8)  # the vocabulary projection is for the last token of a prompt alone
    read = own * fresh * per_token / (chips.peak * facts.efficiency("prefill"))
    running = min(own, at_once)
    step = decode_step_s(judge, chips, facts, active=running, context=rubric + fresh, eager=False)
    alone = decode_step_s(judge, chips, facts, active=1, context=rubric + fresh, eager=False)
    last = reply * alone + work.lengths[-1] * per_token / (chips.peak * facts.efficiency("prefill"))
    return read + own / running * reply * step, last


def learner_efficiency(node: NodeType, tokens: float, facts: Facts) -> float:
    """Share of the peak that a pass over `tokens` positions reaches: a small pass waits for weights."""
    half = facts.efficiency("learner_half_tokens") * node.tflops / 989
    return facts.efficiency(f"learner_{node.generation}") * tokens / (tokens + half)


def learning_s(
    model: Architecture,
    work: Work,
    chips: Chips,
    facts: Facts,
    *,
    passes: float,
    forwards: int,
    zero_stage: int,
    shared: bool = True,
    tower: bool = True,
    at_once: int = 1,
) -> float:
    """Seconds of forward, backward and whatever else passes over a step's groups, spread over ranks of one GPU each.

    Args:
        model: the policy.
        work: the step.
        chips: the ranks.
        facts: efficiencies.
        passes: forward passes that the work amounts to; a backward pass is two.
        forwards: passes that gather the weights under ZeRO-3.
        zero_stage: DeepSpeed's.
        shared: whether a group is one row.
        tower: whether the images' features are computed each time.
        at_once: responses of a micro-batch where rows are plain.
    """
    lengths = [work.mean] * work.group_size
    flop = pass_flop(model, work, lengths, shared=shared, tower=tower) * passes * work.prompts
    tokens = work.prompt + sum(lengths) if shared else at_once * (work.prompt + work.mean)
    seconds = flop / (chips.peak * learner_efficiency(chips.node, tokens, facts))
    if zero_stage < 3 or chips.count == 1:
        return seconds
    batches = work.prompts / chips.count * (1 if shared else work.group_size / at_once)
    moved = 2 * model.parameters * (forwards + 1) * batches
    return max(seconds, moved / chips.link(facts))


def sync_s(model: Architecture, chips: Chips, facts: Facts, *, numbers: int | None = None, size: int = 2) -> float:
    """Seconds for the weights to reach every engine, and to be installed there."""
    sent = size * (model.parameters if numbers is None else numbers)
    network = facts.efficiency("link") * chips.node.network_gbit / 8 * 1e9
    return sent / min(chips.link(facts), network) + 3 * sent / chips.node.memory_gbps / 1e9
