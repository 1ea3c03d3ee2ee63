"""`JudgeEndpoint`: a judge behind any OpenAI-compatible URL. Sends one chat request for each answer, and never retries:
the pool above it does, within its limits.
"""

from __future__ import annotations

import json
import os
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import openai

from actors.judge_home import AttemptFailed, conversation
from rewards.errors import RewardError
from rewards.judge import FailureReason, JudgeFailed, JudgeRequest
from rewards.settings import JudgeSettings

NO_KEY = "none"
"""What is sent to an endpoint for which no key is set; the client insists on one."""


class JudgeEndpoint:
    """A home of judgements (`JudgeHome`) that is reached over HTTP."""

    def __init__(self, settings: JudgeSettings) -> None:
        """Open a client; the key is read from the environment variable `settings.api_key_env`, where that is set.

        Raises:
            RewardError: the settings name no URL.
        """
        if settings.url is None:
            raise RewardError("reward.judge.url is not set: name the endpoint, such as http://host:8000/v1")
        self._settings = settings
        self.identity = json.dumps(
            {
                "url": settings.url,
                "model": settings.model,
                "revision": settings.revision,
                "temperature": settings.temperature,
                "seed": settings.seed,
                "max_tokens": settings.max_tokens,
            }
        )
        self._client = openai.AsyncOpenAI(
            base_url=settings.url,
            api_key=os.environ.get(settings.api_key_env, NO_KEY),
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=openai.DefaultAioHttpClient(),
        )

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        """The content of the first choice; see `JudgeHome.reply`."""
        messages: Any = conversation(request, complaint)
        sheet: Any = {
            "type": "json_schema",
            "json_schema": {"name": "sheet", "schema": request.schema, "strict": True},
        }
        try:
            completion = await self._client.chat.completions.create(
                model=self._settings.model,
                messages=messages,
                temperature=self._settings.temperature,
                seed=self._settings.seed,
                max_tokens=self._settings.max_tokens,
                response_format=sheet,
            )
        except openai.APITimeoutError as error:
            raise AttemptFailed(_timeout_or_connection(error), f"{self._settings.url}: {_root(error)}") from error
        except openai.APIConnectionError as error:
            raise AttemptFailed("connection", f"{self._settings.url}: {_root(error)}") from error
        except openai.APIStatusError as error:
            raise _refused(error) from error
        except (openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise AttemptFailed("server_error", f"{self._settings.url} answered no chat completion: {error}") from error
        choices = getattr(completion, "choices", None)
        if not choices:
            raise AttemptFailed("server_error", f"{self._settings.url} answered no choice")
        return choices[0].message.content or ""

    async def stop(self) -> None:
        """Close the client's connections."""
        await self._client.close()


def _root(error: BaseException) -> BaseException:
    """What an error began with."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _timeout_or_connection(error: openai.APITimeoutError) -> FailureReason:
    """The client on aiohttp reports every failed connection as a timeout; its cause tells them apart."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientConnectionError):
        cause = cause.__cause__
    return "timeout" if cause is None or isinstance(cause, TimeoutError) else "connection"


def _refused(error: openai.APIStatusError) -> JudgeFailed:
    """An HTTP error: overload and trouble on the other side pass, a refused request stays refused."""
    status, detail = error.status_code, f"HTTP {error.status_code}: {error.message[:300]}"
    wait = _retry_after(error.response.headers.get("retry-after"))
    if status == 429:
        return AttemptFailed("rate_limited", detail, wait)
    if status in (408, 409) or status >= 500:
        return AttemptFailed("server_error", detail, wait)
    return JudgeFailed("refused", detail)


def _retry_after(header: str | None) -> float:
    """The seconds a `Retry-After` header asks for: a number of seconds, or a date."""
    if header is None:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time())
    except ValueError:
        return 0.0
