"""Settings of `actors/`: the run, its engines, its learners and the weight sync between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

VLLM_ONCE = ("compile", "max_concurrent", "memory_gib", "gpu_memory_share")
"""vLLM's settings that stood beside `rollout.backend` once, where older recipes and run folders have them."""


def with_engine_options(given: dict[str, Any]) -> dict[str, Any]:
    """A mapping of `rollout` in which vLLM's settings that stood beside `backend` once are among its options.

    Other engines never read them: there they are left out.

    Raises:
        ValueError: a setting is given in both places, with two values.
    """
    own = {key: given[key] for key in VLLM_ONCE if key in given and given.get("backend", "vllm") == "vllm"}
    rest = {key: value for key, value in given.items() if key not in VLLM_ONCE}
    options = given.get("options", {})
    if not (own and isinstance(options, dict)):
        return rest
    if twice := [key for key, value in own.items() if options.get(key, value) != value]:
        raise ValueError(f"rollout.{twice[0]} and rollout.options.{twice[0]} differ: give the second alone")
    return {**rest, "options": {**options, **own}}


def with_transport(given: dict[str, Any]) -> dict[str, Any]:
    """A mapping of `sync` in which `transport` is not called `backend`, as it once was.

    Raises:
        ValueError: it is given under both names, with two values.
    """
    rest = dict(given)
    if "backend" in rest and (old := rest.pop("backend")) != rest.setdefault("transport", old):
        raise ValueError("sync.backend and sync.transport differ: give the second alone")
    return rest


class RunSettings(BaseModel):
    """The length of the run and what it leaves behind."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Folder name of the run below `root`."""
    root: str = "runs"
    """Folder of all runs. Under `ray job submit` it must be absolute: the working directory there is thrown away."""
    steps: int = Field(20, ge=0)
    """Training steps: batches of rollouts learnt from."""
    seed: int = 0
    """Seed of sampling and of the optimizer's order."""
    checkpoint_every: int = Field(0, ge=0)
    """Steps between checkpoints; 0: none by number of steps. One is written at the end and on Ctrl-C in any case."""
    checkpoint_minutes: float = Field(30.0, ge=0)
    """A checkpoint is also written after the first step that ends this many minutes after the last one; 0: never."""
    keep_last: int = Field(2, ge=0)
    """How many checkpoints are kept, the newest; 0 keeps all. The first stays too where something is read from it: a
    KL's reference after a warm start, or the start of `evaluation.control`."""
    tags: tuple[str, ...] = ()
    """Words to find the run by, in `python -m commands.runs` and in trackers."""
    trackers: dict[str, dict[str, Any]] = {}
    """Where curves and sample tables also go, beside TensorBoard: `wandb`, `mlflow`, or `module:Class` of your own
    (`actors/record/tracker.py`), each with its options: `{wandb: {project: driving}}`."""
    samples_every: int = Field(10, ge=0)
    """Steps between two tables of samples for the trackers; 0: none."""
    samples_shown: int = Field(8, ge=1)
    """Responses in such a table: the best and the worst of some groups, with their images."""
    live_report_s: float = Field(20.0, ge=0)
    """Least seconds between two writings of `report.html` while the run goes, which a browser then shows by itself; it
    waits at least fifty times as long as the last one took. 0: it is written at the end alone."""
    keep_best: str | None = None
    """Also keep the checkpoint of the step with the highest value of this metric, such as
    `benchmark/drivelm/final_score` (`evaluation.every` says when that is measured; such steps then have a checkpoint)
    or `reward/mean`."""
    retries: int = Field(0, ge=0)
    """How often the script starts itself again, from the newest checkpoint, when the run ended for a reason that may
    pass (exit code 75: actors or nodes lost, a full disk, a judge that is away)."""
    resume: bool = False
    """Go on from the newest checkpoint of an existing run folder instead of refusing it; `auto` is another word for
    true. Where there is no folder yet, the run begins."""

    @field_validator("resume", mode="before")
    @classmethod
    def _read_auto(cls, given: Any) -> Any:
        return True if given == "auto" else given

    @property
    def folder(self) -> Path:
        """The absolute path of the run's folder, which need not exist."""
        return Path(self.root).expanduser().resolve() / self.name


class RolloutSettings(BaseModel):
    """The engines that sample responses."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    backend: str = "vllm"
    """`vllm`: AsyncLLM, streaming; `sglang`: SGLang's Engine on one GPU, in an environment of its own (not run by us);
    `transformers`: plain generate, slow and simple, for debugging; or `module:Class` of your own
    (`actors/rollout/engine.py`)."""
    options: dict[str, Any] = {}
    """What the engine of that name takes of its own: for vLLM `compile`, `max_concurrent`, `memory_gib`,
    `gpu_memory_share` and `sleep_mode` (`actors/rollout/vllm_engine.py`)."""
    engines: int = Field(1, ge=1)
    """How many engine actors; the run waits until all are there."""
    max_engines: int | None = Field(None, ge=1)
    """Up to how many there may be while it trains: each one beyond `engines` joins once the cluster has room for it (a
    node that was added, by the autoscaler too), and leaves with its node. None: no more than `engines`."""
    tensor_parallel: int = Field(1, ge=1)
    """GPUs per engine."""
    cpus: float = Field(1.0, gt=0)
    """CPUs reserved for one engine."""
    gpus: float = Field(0.0, ge=0)
    """GPUs reserved for one engine."""
    threads: int | None = None
    """Compute threads of an engine on CPU; None takes `cpus`."""
    on_learners: int = Field(0, ge=0)
    """How many of the engines have their place on the devices of the learner's first ranks, one on each. They sleep
    while the learner works; while they generate, the learner keeps optimizer and gradients in host memory. As many as
    there are engines: colocated, for few GPUs. Fewer: the learner's devices are lent to generation while it waits, and
    the other engines go on meanwhile, with a whole GPU each. On GPUs it takes `gpus` below 1 for both, such as 0.5."""
    prompts_per_step: int = Field(16, ge=1)
    """Samples drawn per step."""
    group_size: int = Field(8, ge=1)
    """Responses per sample (G); at least 2 where they are compared with each other."""
    temperature: float = Field(1.0, ge=0.01, le=2)
    """Sampling temperature in training; the learner's log-probabilities are of the same distribution. Below 0.01 vLLM
    would sample at 0.01."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Sample from the likeliest tokens that hold this share of the probability alone; 1: from all. The engine then
    samples from another distribution than the one that is learnt: each token's ratio between the two is the share that
    the kept tokens hold, and what was cut is never explored. 1 is the choice for RL; the run warns of any other."""
    top_k: int = Field(0, ge=0)
    """Sample from this many of the likeliest tokens alone; 0: from all. What `top_p` says holds here too."""
    max_tokens: int = Field(64, ge=1)
    """Response cap in tokens; a response cut off here is over-long."""
    max_model_len: int = 1024
    """Longest prompt plus response in tokens that an engine accepts."""
    max_images: int | None = Field(None, ge=1)
    """Most images in one prompt that an engine accepts; None: as many as `policy.views` and `policy.lidar` make."""
    adapters: Literal["merged", "apart"] = "merged"
    """How `policy.lora` reaches the engines: `merged` into full weights, or `apart`, as adapters of the engine's own:
    little travels, and the base weights stay as they are. Only the language model's (attention, mlp) can, and vLLM."""
    over_provision: float = Field(1.0, ge=1, le=4)
    """Begin this many times the samples of a step, and learn from the groups that are complete first; the others are
    dropped and counted (`groups/dropped`). Long responses then hold no step up, but are learnt from less often than
    they are given: what takes long is under-represented. 1 drops nothing."""
    max_staleness: int = Field(0, ge=0)
    """0: generation waits for the weight sync (on-policy); k: it may run ahead by at most k weight versions."""
    in_flight: Literal["finish", "keep", "recompute", "drop"] | None = None
    """What becomes of responses that are under way when new weights come. `finish`: the weights wait for them.
    `keep`: between two tokens the weights are swapped; the response goes on with the keys and values that it has, of
    the older weights. `recompute`: as `keep`, but keys and values are computed again. `drop`: it is begun again. None:
    `keep` where `max_staleness` lets generation run ahead and the engine can, else `finish`."""
    timeout_s: float = Field(600.0, gt=0)
    """Longest wait for the next finished response."""
    start_timeout_s: float = Field(900.0, gt=0)
    """Longest wait for an engine to start."""
    restarts: int = Field(3, ge=0)
    """How often each engine that died, hung or failed is started again; the run ends when none is left."""
    dispatches: int = Field(3, ge=1)
    """How often a request is sent at most: again to another engine where the one that had it was lost."""
    probe_timeout_s: float = Field(60.0, gt=0)
    """An engine that does not say within this time how it is, asked every ten seconds, is lost."""

    @property
    def cut_sampling(self) -> str | None:
        """What to warn of where responses are not sampled from the whole distribution; None where they are."""
        cuts = [f"rollout.top_p={self.top_p:g}"] * (self.top_p < 1) + [f"rollout.top_k={self.top_k}"] * (self.top_k > 0)
        if not cuts:
            return None
        return (
            f"{' and '.join(cuts)}: responses are sampled from a part of the distribution that is learnt, so that "
            "every ratio between engine and learner is below 1 (see the rollout gap), and what was cut is never "
            "explored; sample from all of it unless you mean this"
        )

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, given: Any) -> Any:
        return with_engine_options(given) if isinstance(given, dict) else given

    @model_validator(mode="after")
    def _leave_room_for_a_prompt(self) -> Self:
        if self.max_tokens >= self.max_model_len:
            raise ValueError(
                f"max_tokens={self.max_tokens} leaves no room for a prompt in max_model_len={self.max_model_len}, "
                "which counts prompt and response together: lower max_tokens, or raise max_model_len"
            )
        return self


class LearnerSettings(BaseModel):
    """The DeepSpeed learner group."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    ranks: int = Field(1, ge=1)
    """Data-parallel learner actors."""
    cpus: float = Field(1.0, gt=0)
    """CPUs reserved for one rank."""
    gpus: float = Field(0.0, ge=0)
    """GPUs reserved for one rank."""
    threads: int | None = None
    """Compute threads of a rank on CPU; None takes `cpus`."""
    zero_stage: Literal[0, 1, 2, 3] = 0
    """DeepSpeed ZeRO stage: what is sharded over the ranks (1 optimizer, 2 + gradients, 3 + weights). In bfloat16 the
    micro-batches of a step are summed in float32 from stage 2 on, and in bfloat16 below."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in CPU memory (GPU learners)."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """`adamw_8bit` (bitsandbytes, GPU only) keeps AdamW's two moments in 8 bits each instead of 32."""
    lr: float = Field(1e-6, gt=0)
    """Learning rate of AdamW."""
    value_lr: float | None = Field(None, gt=0)
    """Learning rate of a critic's value head; None takes `lr`."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls after the warm-up, over the `run.steps` of reinforcement. A run that is resumed with
    more steps goes on at the rate of the longer schedule."""
    lr_floor: float = Field(0.0, ge=0, le=1)
    """Share of the learning rate at which a schedule that falls ends."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    micro_batch_groups: int = Field(4, ge=1)
    """Most groups in one forward and backward pass."""
    micro_batch_tokens: int | None = Field(None, ge=1)
    """Most positions in one forward and backward pass: rows times the longest row, prompts with their image tokens,
    responses and padding. A group that is larger is cut into parts; None sets no bound."""
    restarts: int = Field(3, ge=0)
    """How often in a row, without a checkpoint in between, the ranks are started anew from the newest one after one of
    them died or gave no answer."""
    probe_timeout_s: float = Field(300.0, gt=0)
    """A rank whose process gives no sign of life within this time, asked every ten seconds while it works, is lost."""
    max_skipped: int = Field(3, ge=1)
    """The run ends after this many updates in a row whose gradients are not finite; each is skipped and its batch kept
    in the run folder under `skipped/`."""
    timeout_s: float = Field(1800.0, gt=0)
    """Longest wait for one learner call."""


class SyncSettings(BaseModel):
    """The weight sync after every step."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    transport: str = "auto"
    """How weights travel: `nccl`, from GPU to GPU; `shared_memory`, written once for all engines of one machine;
    `gloo`, from host memory to host memory; `auto`: NCCL where every learner and engine holds whole GPUs, else shared
    memory where the run starts Ray on its own machine, else gloo; or `module:Class` of your own
    (`actors/sync/transport.py`)."""
    options: dict[str, Any] = {}
    """What a transport of your own takes; the built-in ones take nothing."""
    bucket_mib: float = Field(64.0, gt=0)
    """Weights travel in buckets of about this size."""
    compare_every: int = Field(10, ge=1)
    """An engine compares all that it installed with what arrived at its first sync and then at every n-th; the probes
    are of one sample of each task then. At the others the checksums of what travelled vouch, and in float32 the probes
    of a single sample, of each task in turn (in bfloat16, where single tokens stray, always those of all)."""
    max_logprob_gap: float = Field(1e-4, gt=0)
    """Largest allowed probe gap: the difference between the engine's and the learner's log-probabilities of the probes'
    first tokens; above it the run stops. 1e-4 suits float32; bfloat16 differs by up to about 5e-2."""
    probe_tokens: int = Field(8, ge=1)
    """First tokens compared after every sync."""
    timeout_s: float = Field(300.0, gt=0)
    """Longest wait for one bucket, and for the sync as a whole."""

    @model_validator(mode="before")
    @classmethod
    def _read_old_keys(cls, given: Any) -> Any:
        return with_transport(given) if isinstance(given, dict) else given


class WarmStartSettings(BaseModel):
    """Supervised warm start: cross-entropy on the answers only."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    steps: int = Field(0, ge=0)
    """Optimizer steps; 0 skips the warm start."""
    variant: Literal["simple", "reason", "steps"] = "simple"
    """What is demonstrated: `simple`: the answer alone; `reason`: `<think>` reasoning and `<answer>` (ReasonDrive);
    `steps`: numbered steps and a final answer under headings (DriveLMM-o1). Samples without reasoning are left out of
    the latter two."""
    scenes: int | None = None
    """Use the questions of only this many training scenes; None takes all."""
    batch_size: int = Field(32, ge=1)
    """Samples per step; `learner.micro_batch_groups` of them go through the model at once."""
    lr: float = Field(1e-3, gt=0)
    """Learning rate of AdamW during the warm start."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How the learning rate falls over `steps`, to 0 at the end but for `constant`."""
    warmup_steps: int = Field(0, ge=0)
    """Steps over which it rises before."""
    evaluate_every: int = Field(0, ge=0)
    """Steps between measurements of the loss on held-out answers, whose lowest keeps its weights; 0 measures none."""
    evaluate_samples: int = Field(200, ge=1)
    """At most this many held-out answers, drawn from the data seed."""
    patience: int = Field(3, ge=1)
    """Early stopping: after this many measurements in a row without a new lowest loss."""
    keep_moments: bool = True
    """Whether RL goes on with the moments that AdamW gathered here; false: it begins with none, as a run does that
    starts from a finished checkpoint. Supervised gradients are the larger ones: while their second moments last, RL's
    steps are small, for 1 / (1 - beta2) updates and more."""
