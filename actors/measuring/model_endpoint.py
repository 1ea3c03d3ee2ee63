"""`ModelEndpoint`: a model behind any OpenAI-compatible URL answers a benchmark's questions, images and all."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import openai

from actors.measuring.answerer import Asked, Reply
from data.errors import DataError
from data.images import jpeg_data_uri
from data.rollout import SamplingSettings
from data.sample import DrivingSample
from evaluation.suites.suite import Question
from policies.settings import PolicySettings
from policies.views import draw, pictures, views_of

KEY_VARIABLE = "OPENAI_API_KEY"
"""Environment variable that holds the key, where the endpoint wants one."""
NO_KEY = "none"
CONCURRENT = 32
"""Requests in flight."""
TIMEOUT_S = 300.0
"""Longest wait for one reply; the client then tries again, twice."""


class ModelEndpoint:
    """An `Answerer` that is reached over HTTP."""

    def __init__(self, url: str, model: str, policy: PolicySettings) -> None:
        """Ask `model` at `url`; images are drawn as `policy` says (size, stitched or six)."""
        self._url, self._model, self._policy = url, model, policy
        key = os.environ.get(KEY_VARIABLE, NO_KEY)
        self._client = openai.AsyncOpenAI(base_url=url, api_key=key, timeout=TIMEOUT_S)
        self._slots = asyncio.Semaphore(CONCURRENT)

    async def answer(
        self, asked: Sequence[Asked], sampling: SamplingSettings, finished: Callable[[Reply], None]
    ) -> None:
        """See `Answerer`; a question that is refused for its own sake gets a reply with the failure's name.

        Raises:
            DataError: nobody answers, or the key or model is not accepted.
        """

        async def one(question_and_repeat: Asked) -> None:
            async with self._slots:
                finished(await self._reply(*question_and_repeat, sampling))

        try:
            async with asyncio.TaskGroup() as group:
                for item in asked:
                    group.create_task(one(item))
        except ExceptionGroup as failures:  # the first one stopped the others
            raise failures.exceptions[0] from None

    async def _reply(self, question: Question, repeat: int, sampling: SamplingSettings) -> Reply:
        messages = await asyncio.to_thread(self._messages, question.sample)
        began = time.time()
        try:
            completion = await self._client.chat.completions.create(
                model=self._model,
                messages=messages,
                temperature=sampling.temperature,
                max_tokens=sampling.max_tokens,
                seed=None if sampling.seed is None else sampling.seed + repeat,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise DataError(
                f"{self._url} refuses the model {self._model!r} or the key in {KEY_VARIABLE} "
                f"(HTTP {error.status_code}): mend --served-model, or the key"
            ) from error
        except openai.APITimeoutError:
            return _none(question.key, repeat, "no_reply_in_time", began)
        except openai.APIConnectionError as error:
            raise DataError(f"no model answers at {self._url}: start it, or mend --model ({error})") from error
        except openai.APIStatusError as error:
            print(f"{question.key}: {self._url} answers HTTP {error.status_code}: {error.message[:200]}", flush=True)
            return _none(question.key, repeat, f"http_{error.status_code}", began)
        choice, usage = completion.choices[0], completion.usage
        return Reply(
            key=question.key,
            repeat=repeat,
            text=choice.message.content or "",
            finish_reason="length" if choice.finish_reason == "length" else "stop",
            response_tokens=usage.completion_tokens if usage else None,
            image_tokens=None,
            seconds=time.time() - began,
        )

    def _messages(self, sample: DrivingSample) -> list[Any]:
        """One user turn: the images first, then the question, as every prompt of ours."""
        shown = [draw(picture, self._policy) for picture in pictures(views_of(sample), self._policy)]
        content = [{"type": "image_url", "image_url": {"url": jpeg_data_uri(image)}} for image in shown]
        user = {"role": "user", "content": [*content, {"type": "text", "text": sample.question}]}
        system = self._policy.system_prompt
        return [*([{"role": "system", "content": system}] if system else []), user]

    async def stop(self) -> None:
        """Close the client's connections."""
        await self._client.close()


def _none(key: str, repeat: int, failure: str, began: float) -> Reply:
    return Reply(key, repeat, "", "stop", None, None, time.time() - began, failure)
