"""`RolloutEngine`: what samples responses, as the pool and the weight sync see it; and which class a recipe names.

No engine is imported before a recipe names it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

from pydantic import BaseModel

from actors.sync.transport import Bucket, Meeting, Receipt
from data.rollout import GenerationRequest, Refusal, Rollout
from extension import ExtensionError, resolve, validated
from failures import EngineError
from recipe import Recipe

ENGINES: Mapping[str, str] = {
    "vllm": "actors.rollout.vllm_engine:VllmEngine",
    "transformers": "actors.rollout.transformers_engine:TransformersEngine",
    "sglang": "actors.rollout.sglang_engine:SglangEngine",
}
"""What `rollout.backend` may name beside `module:Class`."""

Ability = Literal["adapters", "tensor_parallel", "seeds", "cuts", "swaps"]
"""What an engine may be able to do: load adapters apart from the weights they adapt (`rollout.adapters: apart`), spread
one model over several GPUs (`rollout.tensor_parallel`), draw a request by the seed that it names, cut the
distribution as `rollout.top_p` and `top_k` say, take new weights between two tokens of a response
(`rollout.in_flight`)."""

InFlight = Literal["finish", "keep", "recompute", "drop"]
"""See `rollout.in_flight`."""

State = Literal["new", "generating", "paused", "asleep", "stopped"]


@dataclass(frozen=True, slots=True)
class Health:
    """What an engine says of itself."""

    state: State
    version: int
    """Of the weights it holds; -1: those of its checkpoint."""
    running: int
    """Requests that it was handed and has not finished."""


class RolloutEngine(Protocol):
    """Samples responses with weights that change. One object in a process of its own, as a Ray actor.

    `rollout.backend: my_package.my_engine:MyEngine` names a class of yours; nothing else has to change. Derive from
    nothing; a call may come while others run, so what takes long must not block the event loop (`asyncio.to_thread`).
    `tests/integration/test_engine_contract.py` holds an engine to every sentence here.

    States: `new`, after `start` `generating`; `pause` and `resume` lead from `generating` to `paused` and back; `sleep`
    leads from either of the two to `asleep`, `wake` from there to `generating`; after `stop` `stopped`. In a state that
    a call does not lead away from, it does nothing. Calls that change the state are made one after another.
    """

    Settings: ClassVar[type[BaseModel]]
    """A pydantic model of what this engine alone takes: `rollout.options` of the recipe. Forbid extra keys. A field
    `memory_gib` (on CPU) or `gpu_memory_share` is shown by `--dry-run` as the size of the KV cache."""

    @staticmethod
    def abilities(recipe: Recipe) -> frozenset[Ability]:
        """What an engine of this recipe can do; one that asks for more is refused when it is loaded."""
        ...

    @staticmethod
    def environment(recipe: Recipe, options: Any) -> dict[str, str]:
        """Environment variables that must be set before the engine's process imports anything."""
        ...

    def __init__(self, name: str, folder: str, recipe: Recipe, options: Any, seed: int) -> None:
        """Remember what to load; `start` loads it.

        Args:
            name: how errors and rollouts call this engine.
            folder: checkpoint folder or hub name.
            recipe: its `policy` says dtype, revision and prompts, its `rollout` what holds for every engine.
            options: a `Settings` of this class.
            seed: of the sampling of all requests that name none of their own.
        """
        ...

    async def start(self) -> float:
        """Load the model; returns the seconds it took."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Rollout | Refusal]:
        """Yield one rollout for each request, each the moment it ends, in any order. Several calls may be open at once.

        A sample that cannot be asked (an image is missing or damaged, the prompt is longer than
        `rollout.max_model_len`) gives a `Refusal`, whose sentence names engine and sample; the others go on.

        Token ids that stand for images (`policies.model.forbidden_ids`) must not be sampled. `logprobs` are of the
        distribution that was sampled from, temperature and forbidden ids applied (at temperature 0: that of 1).
        """
        ...

    async def pause(self) -> None:
        """Stop generating; when this returns, no token is sampled until `resume`. What runs or arrives is kept.

        vLLM stops between two tokens. transformers finishes the one response that it is at, and begins no other.
        """
        ...

    async def resume(self) -> None:
        """Go on where `pause` stopped: what was in flight is completed as if nothing had happened."""
        ...

    async def sleep(self) -> None:
        """Pause, and give memory up until `wake`; weights are kept. Where there is no GPU it only pauses.

        Raises:
            EngineError: this engine was not started so that it could.
        """
        ...

    async def wake(self) -> None:
        """Take the memory back and go on with what was in flight."""
        ...

    async def join_weight_channel(self, meeting: Meeting, first_member: int) -> None:
        """Join the weight transport (`actors.sync.transport.join`) with all workers of this engine.

        An engine brings `rollout.tensor_parallel` members, numbered from `first_member` on.
        """
        ...

    async def receive_weights(self, version: int, buckets: list[Bucket], timeout_s: float) -> list[Receipt]:
        """Take the buckets of a new weight version, install them in place, and reset the caches.

        Where `in_flight_of` the recipe says `finish`, nothing may be in flight, paused or not. Else the engine takes
        them between two tokens, does with what is in flight as the setting says, and no token after sees anything that
        the setting does not keep. What is sampled afterwards carries `version`. Returns a receipt for each worker;
        `actors.sync.receiver.Arrival` fills one in.

        Raises:
            EngineError: requests are in flight that must finish first, or the engine is asleep.
            TimeoutError: the weights were not there in time, or what the transport raises then.
        """
        ...

    async def reset_caches(self) -> None:
        """Forget all that was computed with the weights: keys and values, image embeddings. Answers stay the same."""
        ...

    async def health(self) -> Health:
        """How the engine is; cheap, and answered while it generates. Raises what ended the engine, if something did."""
        ...

    async def stop(self) -> None:
        """Let go of processes and memory; also where `start` never came up, and a second time."""
        ...


class ChosenEngine(NamedTuple):
    """What a recipe says its engines are."""

    engine_class: type[Any]
    options: Any
    """The class's own `Settings`."""
    abilities: frozenset[Ability]


def engine_of(recipe: Recipe) -> ChosenEngine:
    """The engine that a recipe names, with its options; loads and starts nothing.

    Raises:
        ExtensionError: the name, an option or an option's value is unknown, the class lacks a method of `RolloutEngine`
            or an ability that the recipe needs; one sentence.
    """
    settings = recipe.rollout
    engine_class = resolve(settings.backend, ENGINES, RolloutEngine, "rollout.backend")
    options = validated(engine_class.Settings, settings.options, "rollout.options")
    abilities = engine_class.abilities(recipe)
    needed: dict[Ability, str] = {}
    if settings.adapters == "apart":
        needed["adapters"] = "rollout.adapters=apart needs an engine that loads adapters"
    if settings.tensor_parallel > 1:
        needed["tensor_parallel"] = (
            f"rollout.tensor_parallel={settings.tensor_parallel} needs an engine that spreads a model over GPUs"
        )
    if settings.in_flight not in (None, "finish"):
        needed["swaps"] = (
            f"rollout.in_flight={settings.in_flight} needs an engine that swaps weights between tokens, and "
            "rollout.adapters=merged"
        )
    if settings.cut_sampling is not None:
        needed["cuts"] = "rollout.top_p and top_k need an engine that cuts the distribution"
    for ability, sentence in needed.items():
        if ability not in abilities:
            raise ExtensionError(f"{sentence}; rollout.backend={settings.backend} does not")
    return ChosenEngine(engine_class, options, abilities)


def in_flight_of(recipe: Recipe, abilities: frozenset[Ability]) -> InFlight:
    """What becomes of responses that are under way when new weights come to an engine with these abilities."""
    settings = recipe.rollout
    if settings.in_flight is not None:
        return settings.in_flight
    return "keep" if settings.max_staleness > 0 and "swaps" in abilities else "finish"


def refusal(engine: str, request: GenerationRequest, why: object) -> Refusal:
    """That an engine cannot answer a request, in one sentence."""
    sample_id = request.sample.id
    return Refusal(request.request_id, sample_id, f"{engine} refuses sample {sample_id}: {why}")


def refuse_mixed(engine: str, state: State, running: int) -> None:
    """Refuse weights that would mix two versions in one response, or that an engine has no memory for.

    Raises:
        EngineError: see `RolloutEngine.receive_weights`.
    """
    if running:
        raise EngineError(f"{engine} takes new weights when nothing is in flight: {running} requests are")
    if state == "asleep":
        raise EngineError(f"{engine} is asleep: wake it before it receives weights")
