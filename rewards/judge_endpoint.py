"""`JudgeEndpoint`: a judge behind any OpenAI-compatible URL. Sends one chat request for each answer, and never retries:
the pool above it does, within its limits.
"""

from __future__ import annotations

import asyncio
import json
import os
from email.utils import parsedate_to_datetime
from time import time
from typing import Any

import aiohttp
import openai

from rewards.errors import RewardError
from rewards.judge import AttemptFailed, FailureReason, JudgeFailed, JudgeRequest
from rewards.settings import JudgeSettings

SPACING_S = 0.001
"""Requests are sent at least so far apart. Sent at once, the event loop carries all of them through each of their many
steps together, and every one pays the CPU time of all: 64 in flight spent a quarter of their time so."""
NO_KEY = "none"
"""What is sent to an endpoint for which no key is set; the client insists on one."""


class JudgeEndpoint:
    """A backend (`JudgeBackend`) that is reached over HTTP."""

    def __init__(self, settings: JudgeSettings) -> None:
        """Open a client; the key is read from the environment variable `settings.api_key_env`, where that is set.

        Raises:
            RewardError: the settings name no URL.
        """
        if settings.url is None:
            raise RewardError("reward.judge.url is not set: name the endpoint, such as http://host:8000/v1")
        self._settings, self.slots = settings, settings.max_concurrent
        decisive = settings.model_dump(include={"model", "revision", "temperature", "seed", "max_tokens"})
        self.identity = json.dumps({"url": settings.url} | decisive)
        self._client = openai.AsyncOpenAI(
            base_url=settings.url,
            api_key=os.environ.get(settings.api_key_env, NO_KEY),
            max_retries=0,
            timeout=settings.timeout_s,
            http_client=openai.DefaultAioHttpClient(),
        )
        self._next_turn = 0.0

    async def check(self) -> None:
        """Ask the server for its models, so that a wrong URL or key is reported before anything else begins.

        Raises:
            RewardError: nobody answers, or the key is not accepted. A server that lists no models is good enough.
        """
        try:
            await self._client.models.list()
        except openai.APIConnectionError as error:
            raise RewardError(
                f"reward.judge.url: nobody answers at {self._settings.url} ({_root(error)}); start the judge first, or "
                "mend the URL"
            ) from error
        except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
            raise RewardError(
                f"reward.judge.url: {self._settings.url} does not accept the key in the environment variable "
                f"{self._settings.api_key_env} (HTTP {error.status_code})"
            ) from error
        except openai.APIStatusError:
            return

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        """The content of the first choice; see `JudgeBackend.reply`."""
        await self._turn()
        body = {
            "model": self._settings.model,
            "messages": request.messages(complaint),
            "temperature": self._settings.temperature,
            "seed": self._settings.seed,
            "max_tokens": self._settings.max_tokens,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "sheet", "schema": request.schema, "strict": True},
            },
        }
        try:
            # Not chat.completions.create: it walks through every value by its type, a third of a request's CPU time.
            completion: Any = await self._client.post("/chat/completions", body=body, cast_to=object)
        except openai.APITimeoutError as error:
            raise AttemptFailed(_timeout_or_connection(error), f"{self._settings.url}: {_root(error)}") from error
        except openai.APIConnectionError as error:
            raise AttemptFailed("connection", f"{self._settings.url}: {_root(error)}") from error
        except openai.APIStatusError as error:
            raise self._refused(error) from error
        except (openai.APIResponseValidationError, json.JSONDecodeError) as error:
            raise AttemptFailed("server_error", f"{self._settings.url} answered no chat completion: {error}") from error
        match completion:
            case {"choices": [{"message": {"content": str() | None as content}}, *_]}:
                return content or ""
        raise AttemptFailed(
            "server_error", f"{self._settings.url} answered no chat completion: {str(completion)[:300]}"
        )

    async def _turn(self) -> None:
        """Wait until a request may be sent. Turns are given out ahead: with aiolimiter, which wakes one after another,
        every late wake-up delays all that come behind it."""
        now = asyncio.get_running_loop().time()
        self._next_turn = max(self._next_turn + SPACING_S, now)
        await asyncio.sleep(self._next_turn - now)

    def _refused(self, error: openai.APIStatusError) -> JudgeFailed:
        """An HTTP error: overload and trouble on the other side pass, a refused request stays refused."""
        said = error.message.replace(self._client.api_key, "...")  # some servers repeat the key
        status, detail = error.status_code, f"HTTP {error.status_code}: {said[:300]}"
        wait = _retry_after(error.response.headers.get("retry-after"))
        if status == 429:
            return AttemptFailed("rate_limited", detail, wait)
        if status in (408, 409) or status >= 500:
            return AttemptFailed("server_error", detail, wait)
        return JudgeFailed("refused", detail)

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
