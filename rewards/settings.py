"""Settings of `rewards/`: the gate, which scorers an answer goes through by task and kind, judge, CLIP and alarms."""

from __future__ import annotations

import math
import re
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

SECRET_PARAMETER = re.compile(r"key|token|secret|passw|auth|credential|signature|^sig$|^code$", re.IGNORECASE)
"""Names of a URL's parameters that hold what nobody else may read."""


class GateSettings(BaseModel):
    """Rules that settle an answer at 0 before any other scorer sees it (AutoDriveRL's first stage)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    overlong: bool = True
    """A response cut off at the token cap (finish reason `length`) is worth 0."""
    ngram: int = Field(default=4, ge=1)
    """Length in words of the n-grams in which repetition is counted."""
    max_repeated_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """More than this share of repeated n-grams makes an answer repetitive."""
    max_repeated_sentence: int = Field(default=3, ge=1)
    """The same sentence more than this often makes an answer repetitive."""
    min_words: int = Field(default=12, ge=0)
    """Shorter answers are never called repetitive by n-grams."""


class RouteSettings(BaseModel):
    """The scorers for the answers of some tasks and kinds; the first route that matches is taken."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    task: str = "any"
    """The task this route is for, by the name that the data gives it; `any`: all of them."""
    kind: Literal["multiple_choice", "yes_no", "open_ended", "coordinates", "structured", "any"] = "any"
    """The kind of question this route is for."""
    scorers: dict[str, float]
    """Scorer name with its weight; the value is the weighted mean, and a scorer of weight 0 is logged and counts for
    nothing. Rules: `exact_match`, `option`, `yes_no`, `hybrid_coordinate_f1`, `drivelm_match_f1`, `bleu`, `rouge_l`,
    `hybrid` (Appendix J's choice among them by kind), `planning` (AlphaDrive), `agreement` and `structure` (BDD-OIA's
    R2 and R3), `trajectory_ade`, `trajectory_collision`, `trajectory_comfort` (docs/driving.md). Models: `judge` with
    the rubric for the question's kind, `judge/<rubric>` with another (or the path of your own), `clip` (R1). Your own
    function: its import path `package.module:function`. A grader in JSON (`rewards/graders.py`): `grader/<file>`."""

    @field_validator("scorers")
    @classmethod
    def _weights_make_a_mean(cls, scorers: dict[str, float]) -> dict[str, float]:
        if any(not (math.isfinite(weight) and weight >= 0) for weight in scorers.values()):
            raise ValueError("scorer weights must be 0 or positive numbers")
        if sum(scorers.values()) == 0:
            raise ValueError("at least one scorer needs a weight above 0")
        return scorers


DEFAULT_ROUTES = (
    RouteSettings(kind="multiple_choice", scorers={"option": 1.0}),
    RouteSettings(kind="yes_no", scorers={"yes_no": 1.0}),
    RouteSettings(kind="coordinates", scorers={"hybrid_coordinate_f1": 1.0}),
    RouteSettings(kind="structured", scorers={"hybrid_coordinate_f1": 0.5, "rouge_l": 0.25, "bleu": 0.25}),
    RouteSettings(kind="open_ended", scorers={"exact_match": 0.5, "rouge_l": 0.25, "bleu": 0.25}),
)


def secret_of(url: str) -> str | None:
    """What of a URL is a secret, in words that do not tell it; None where nothing is.

    Recipes, reports and messages show URLs, so that a secret has no place in one.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "something that cannot be read as a URL"
    if "@" in parts.netloc:
        return "a user name or a password"
    named = [name for name, _ in parse_qsl(f"{parts.query}&{parts.fragment}", keep_blank_values=True)]
    found = next((name for name in named if SECRET_PARAMETER.search(name)), None)
    return None if found is None else f"the parameter {found}"


class JudgeSettings(BaseModel):
    """The LLM judge: engines of our own (`model` alone), or any OpenAI-compatible URL (`url` and `model`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str
    """Folder or hub name of a chat model; `tiny` builds a random one; with `url`, the name the endpoint knows."""
    revision: str | None = None
    """Branch, tag or commit on the hub; part of what a kept judgement belongs to."""
    url: str | None = None
    """Base URL of an OpenAI-compatible endpoint, such as http://host:8000/v1; None starts engines on the cluster."""
    api_key_env: str = "AUTODRIVERL_JUDGE_KEY"
    """Environment variable that holds the endpoint's key."""
    sees: Literal["answer", "response"] = "answer"
    """What the judge is shown: the answer part, or the whole response with its thinking."""
    temperature: float = Field(0.0, ge=0)
    """Sampling temperature of the judge."""
    seed: int = 0
    """Seed of the judge's sampling."""
    max_tokens: int = Field(256, ge=1)
    """Cap of a reply in tokens; a sheet needs about 10 for each criterion."""
    max_concurrent: int = Field(64, ge=1)
    """Requests that the endpoint takes, or that each engine runs, at once."""
    requests_per_minute: float | None = Field(None, gt=0)
    """Requests begun per minute; None sets no limit."""
    tokens_per_minute: float | None = Field(None, gt=0)
    """Tokens asked for per minute (prompts estimated at four characters a token, plus `max_tokens`); None: no limit."""
    attempts: int = Field(4, ge=1)
    """Attempts at one reply when the judge is overloaded, unreachable or too slow."""
    backoff_s: float = Field(0.5, ge=0)
    """The wait before the second attempt is random, up to about this; it doubles with each further one."""
    longest_backoff_s: float = Field(30.0, ge=0)
    """No wait between attempts is longer, whatever the judge asks for."""
    timeout_s: float = Field(60.0, gt=0)
    """Longest wait for one reply."""
    cache: bool = True
    """Keep judgements in `<run.root>/judge_cache.sqlite`: an answer that was judged before is not judged again."""
    engines: int = Field(1, ge=1)
    """How many judge engine actors."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs over which an engine spreads its model."""
    cpus: float = Field(1.0, gt=0)
    """CPUs reserved for one engine."""
    gpus: float = Field(0.0, ge=0)
    """GPUs reserved for one engine."""
    threads: int | None = None
    """Compute threads of an engine on CPU; None takes `cpus`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of the judge's weights."""
    four_bit: bool = False
    """Load our own engines' weights in 4 bits (bitsandbytes, of the GPU extra), a quarter of the memory; GPUs only, and
    only architectures that vLLM loads so. Judgements of such a judge are cached apart. Not run by us."""
    max_model_len: int = Field(4096, ge=1)
    """Longest prompt plus reply in tokens that an engine accepts."""
    memory_gib: float = Field(1.0, gt=0)
    """KV cache of an engine on CPU, in GiB."""
    gpu_memory_share: float = Field(0.9, gt=0, le=1)
    """Share of a GPU's memory that an engine may take."""
    start_timeout_s: float = Field(1800.0, gt=0)
    """Longest wait for an engine to start: a 72B model is read from disk."""
    restarts: int = Field(3, ge=0)
    """How often a lost engine is started again."""

    def least_seconds(self, answers: int) -> float:
        """The least time for `answers` answers at the limits per minute; those of the first minute come at once."""
        limits = ((self.requests_per_minute, 1), (self.tokens_per_minute, self.max_tokens))
        return max(60.0 * max(0.0, answers * each / rate - 1.0) if rate else 0.0 for rate, each in limits)

    @model_validator(mode="after")
    def _check_four_bit(self) -> Self:
        if self.four_bit and (self.url is not None or not self.gpus):
            why = "an endpoint loads its own weights: leave it out" if self.url else "runs on GPUs only: set gpus"
            raise ValueError(f"four_bit: {why}")
        return self

    @field_validator("url")
    @classmethod
    def _keep_secrets_out(cls, url: str | None) -> str | None:
        if url is not None and (secret := secret_of(url)) is not None:
            raise ValueError(
                f"holds {secret}, which recipe.yaml and reports would show: leave it out, and put the key into the "
                "environment variable that api_key_env names"
            )
        return url


class ClipSettings(BaseModel):
    """The CLIP that compares captions with frames, and the actors that hold it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    model: str = "tiny"
    """`tiny` trains a small one on rendered scenes (a minute or two, kept in `run.root`); a folder in open_clip's
    layout; `hf-hub:owner/name`; or the name of an architecture of open_clip, such as ViT-B-32."""
    pretrained: str | None = None
    """For the name of an architecture: the tag of its weights, such as openai, or a checkpoint file."""
    reads: Literal["answer", "description", "justification"] = "answer"
    """The caption: the answer part, or that field where the answer is a JSON object."""
    increments: Literal["sentence", "clause", "word"] | None = None
    """Also give the reward in increments along the caption, one for each such span (A2C)."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Number format of the weights."""
    actors: int = Field(1, ge=1)
    """How many actors; a scene always goes to the same one while that one lives."""
    cpus: float = Field(1.0, gt=0)
    """CPUs reserved for one actor."""
    gpus: float = Field(0.0, ge=0)
    """GPUs reserved for one actor."""
    threads: int | None = Field(None, ge=1)
    """Compute threads of an actor on CPU, and threads that decode its images; None takes `cpus`."""
    batch_size: int = Field(64, ge=1)
    """Frames, or texts, in one forward pass; and rollouts in one call to an actor."""
    max_wait_ms: float = Field(5.0, ge=0)
    """How long rollouts are gathered for one call, unless `batch_size` of them are there before."""
    cache_mib: float = Field(256.0, gt=0)
    """Frame embeddings that an actor keeps, in MiB; a frame takes about 2 KiB (ViT-B-32: 2.5)."""
    timeout_s: float = Field(60.0, gt=0)
    """Longest wait for one call to an actor; one that takes longer is taken for lost."""
    attempts: int = Field(3, ge=1)
    """Attempts at one rollout when actors are lost."""
    restarts: int = Field(3, ge=0)
    """How often a lost actor is started again."""
    start_timeout_s: float = Field(600.0, gt=0)
    """Longest wait for an actor to start and to load the model."""


class AlarmSettings(BaseModel):
    """When a run warns that a person should look: the mean of the latest steps is compared with earlier ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    judge_metric: str = "parts/judge"
    """Metric of the judge's mean score, 0-100."""
    rule_metric: str = "parts/rouge_l"
    """Metric of the mean of a rule-based score of the same answers, 0-100; give that scorer weight 0 to only watch."""
    length_metric: str = "response/length_mean"
    """Metric of the mean response length in tokens."""
    reward_metrics: str = "reward/"
    """How the names of the mean rewards begin that must not fall, 0-100: that of all, and each task's."""
    window: int = Field(default=10, ge=3)
    """Steps in a window."""
    lookback: int = Field(default=8, ge=1)
    """With how many earlier windows, one after the other, the latest one is compared. A slow change shows against the
    oldest of them, a sudden one against the newest."""
    errors: float = Field(default=5.0, gt=0)
    """Smallest change that counts, in pooled standard errors of the two window means."""
    min_rise: float = Field(default=5.0, gt=0)
    """Smallest rise of the judge's score that counts, in points."""
    keeps_pace: float = Field(default=0.25, ge=0, le=1)
    """The rules keep pace with the judge when they gain at least this share of its gain."""
    rule_errors: float = Field(default=2.0, gt=0)
    """They do not when their gain is below that share by at least this many of their own pooled standard errors."""
    min_fall: float = Field(default=20.0, gt=0)
    """Smallest fall of a mean reward that counts, in points."""
    min_drift: float = Field(default=0.5, gt=0)
    """Smallest change of the length that counts: 0.5 is 1.5 times as long, or 1/1.5 as long."""


class RewardSettings(BaseModel):
    """How an answer becomes a `Score`."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    gate: GateSettings = GateSettings()
    """The rules that come first."""
    routes: tuple[RouteSettings, ...] = DEFAULT_ROUTES
    """Tried in order; a sample that no route matches is an error before the run starts."""
    judge: JudgeSettings | None = None
    """The LLM judge behind the scorer `judge`; None when no route names it."""
    clip: ClipSettings | None = None
    """The CLIP behind the scorer `clip`; None when no route names it."""
    trajectory_bins: str | None = None
    """File of bins whose tokens the `trajectory_...` scorers read, that of `policy.heads.trajectory`; None: they read
    numbers alone."""
    alarm: AlarmSettings = AlarmSettings()
    """When the run's series call for a person."""
    timeout_s: float = Field(default=30.0, gt=0)
    """Longest time that a reward of your own may take for one answer, from its start and less what it waits for judge
    or CLIP; beyond it the rollout is masked as `scoring_timeout`. Judge and CLIP have a `timeout_s` and `attempts` of
    their own. No time runs while an answer waits for its turn."""
    processes: int = Field(default=8, ge=1)
    """Most processes in which plain functions of your own run, one call at a time each; every one imports your module.
    They are started as answers wait."""
    max_masked_share: float = Field(default=0.5, gt=0.0, le=1.0)
    """The run stops when more than this share of a batch's rollouts was masked."""
