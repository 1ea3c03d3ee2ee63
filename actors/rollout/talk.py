"""Talking to a vLLM engine: one prompt of tokens and images in, the answer piece by piece out.

Used by the rollout engine that holds many adapters, and by the endpoint of one policy.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from PIL import Image

from actors.rollout.adapter_folder import AdapterFolder
from data.errors import DataError


@dataclass(frozen=True, slots=True)
class TalkRequest:
    """One answer wanted after one prompt."""

    request_id: str
    token_ids: tuple[int, ...]
    """The prompt, with one placeholder for each image."""
    images: tuple[Image.Image, ...]
    """At the size that the policy sees."""
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = -1
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stops: tuple[str, ...] = ()
    logprobs: int | None = None
    """How many likely tokens are wanted in each place, beside the log-probability of the one that came; None: none."""
    schema: dict[str, Any] | None = None
    """The JSON schema that the answer must satisfy; empty: any JSON object."""
    adapter: AdapterFolder | None = None
    """None: the base alone."""


@dataclass(frozen=True, slots=True)
class TalkToken:
    """A token with its log-probability, and the likeliest in its place."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class TalkPiece:
    """What was added to an answer."""

    text: str
    token_ids: tuple[int, ...]
    finish_reason: str | None
    prompt_ids: tuple[int, ...] = ()
    """The prompt as the model saw it, images expanded; with the first piece alone."""
    logprobs: tuple[TalkToken, ...] = ()


async def talk(
    llm: Any, request: TalkRequest, bias: dict[int, float], extra: dict[str, Any] | None = None
) -> AsyncGenerator[TalkPiece, None]:
    """The answer of an AsyncLLM; closing the iterator aborts it.

    Args:
        llm: vLLM's AsyncLLM.
        request: what is asked.
        bias: logit biases of ids that must not be sampled.
        extra: arguments for this project's vLLM plugins.

    Raises:
        DataError: the prompt is too long for the model, or vLLM cannot follow the schema; in vLLM's words.
    """
    from vllm.exceptions import VLLMClientError
    from vllm.lora.request import LoRARequest

    prompt: dict[str, Any] = {"prompt_token_ids": list(request.token_ids)}
    if request.images:
        prompt["multi_modal_data"] = {"image": list(request.images)}
    held = request.adapter
    adapter = held and LoRARequest(f"adapter-{held.number}", held.number, held.folder)
    first = True
    try:
        sampling = _sampling(request, bias, extra)
        async with aclosing(llm.generate(prompt, sampling, request.request_id, lora_request=adapter)) as outputs:
            async for output in outputs:
                new, shown = output.outputs[0], tuple(output.prompt_token_ids) if first else ()
                likely = _logprobs(new, request.logprobs)
                yield TalkPiece(new.text, tuple(new.token_ids), new.finish_reason, shown, likely)
                first = False
    except (VLLMClientError, ValueError) as error:
        raise DataError(" ".join(str(error).split())[:500]) from error


def _sampling(request: TalkRequest, bias: dict[int, float], extra: dict[str, Any] | None) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    wanted = None
    if request.schema is not None:
        wanted = (
            StructuredOutputsParams(json=request.schema)
            if request.schema
            else StructuredOutputsParams(json_object=True)
        )
    return SamplingParams(
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        max_tokens=request.max_tokens,
        seed=request.seed,
        stop=list(request.stops) or None,
        logprobs=request.logprobs,
        logit_bias=bias or None,
        structured_outputs=wanted,
        extra_args=extra,
        output_kind=RequestOutputKind.DELTA,
    )


def _logprobs(new: Any, wanted: int | None) -> tuple[TalkToken, ...]:
    if wanted is None or not new.logprobs:
        return ()
    found = []
    for token, at in zip(new.token_ids, new.logprobs, strict=True):
        likely = sorted(at.items(), key=lambda one: (one[1].rank or 0, one[0]))[:wanted]
        top = tuple((str(one.decoded_token or ""), float(one.logprob)) for _, one in likely)
        found.append(TalkToken(str(at[token].decoded_token or ""), float(at[token].logprob), top))
    return tuple(found)
