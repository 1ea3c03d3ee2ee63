"""`JudgeBackend`: what turns one request into one reply. The pool above it retries, caches and counts."""

from __future__ import annotations

from typing import Protocol

from rewards.judge import FailureReason, JudgeFailed, JudgeRequest
from rewards.untrusted import block


class AttemptFailed(JudgeFailed):
    """One attempt gave no reply; another may. `retry_after_s` is how long the backend asked to be left alone."""

    def __init__(self, reason: FailureReason, detail: str, retry_after_s: float = 0.0) -> None:
        """As `JudgeFailed`, with the wait that the backend asked for in seconds."""
        super().__init__(reason, detail)
        self.retry_after_s = retry_after_s


class JudgeBackend(Protocol):
    """Where judgements come from."""

    identity: str
    """Everything about the judge that decides its replies: model, revision, sampling settings."""
    slots: int
    """Requests it takes at once."""

    async def reply(self, request: JudgeRequest, complaint: str | None) -> str:
        """The judge's reply to a request.

        Args:
            request: the answer to be judged.
            complaint: what was wrong with the reply before this one; None at the first time of asking.

        Raises:
            AttemptFailed: no reply, but there may be one later.
            JudgeFailed: no reply, and asking again is of no use.
        """
        ...

    async def stop(self) -> None:
        """Let go of connections and processes."""
        ...


def conversation(request: JudgeRequest, complaint: str | None) -> list[dict[str, str]]:
    """The messages of a request; a re-ask says what was wrong, as data: it may quote an answer that means the judge."""
    if complaint is None:
        return request.messages
    again = (
        f"\nYour reply before this one was no valid sheet:\n{block('fault', complaint)}\nReply with the sheet alone."
    )
    return [request.messages[0], {"role": "user", "content": request.user + again}]
