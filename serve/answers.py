"""OpenAI's chat dialect: the JSON of answers, whole and streamed."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.rollout.talk import TalkPiece, TalkToken

LEAST_LOGPROB = -9999.0
"""What OpenAI writes for a token that cannot come: JSON has no infinity."""


def joined(pieces: Sequence[TalkPiece]) -> TalkPiece:
    """The whole answer."""
    return TalkPiece(
        "".join(piece.text for piece in pieces),
        tuple(token for piece in pieces for token in piece.token_ids),
        pieces[-1].finish_reason,
        pieces[0].prompt_ids,
        tuple(one for piece in pieces for one in piece.logprobs),
    )


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """Puts the pieces of one answer into OpenAI's JSON."""

    answer_id: str
    model: str
    with_token_ids: bool
    with_logprobs: bool = False

    def completion(self, piece: TalkPiece) -> dict[str, Any]:
        """The JSON of a whole answer."""
        message = {"role": "assistant", "content": piece.text, "refusal": None}
        body = self._envelope("chat.completion") | {"choices": [self._choice({"message": message}, piece)]}
        body["usage"] = usage(len(piece.prompt_ids), len(piece.token_ids))
        return body | ({"prompt_token_ids": list(piece.prompt_ids)} if self.with_token_ids else {})

    def chunk(self, piece: TalkPiece, *, first: bool) -> dict[str, Any]:
        """The JSON of one piece of a streamed answer."""
        delta = {"content": piece.text} | ({"role": "assistant"} if first else {})
        return self._envelope("chat.completion.chunk") | {"choices": [self._choice({"delta": delta}, piece)]}

    def usage_chunk(self, prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
        """The JSON of the last piece, which carries token counts alone."""
        body = self._envelope("chat.completion.chunk") | {"choices": []}
        return body | {"usage": usage(prompt_tokens, completion_tokens)}

    def _choice(self, content: dict[str, Any], piece: TalkPiece) -> dict[str, Any]:
        logprobs = {"content": [_token(one) for one in piece.logprobs], "refusal": None}
        choice = {"index": 0, **content, "finish_reason": piece.finish_reason,
                  "logprobs": logprobs if self.with_logprobs else None}  # fmt: skip
        return choice | ({"token_ids": list(piece.token_ids)} if self.with_token_ids else {})

    def _envelope(self, kind: str) -> dict[str, Any]:
        return {"id": self.answer_id, "object": kind, "created": int(time.time()), "model": self.model}


def usage(prompt_tokens: int, completion_tokens: int) -> dict[str, int]:
    """OpenAI's token counts."""
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens, "total_tokens": total}


def event(body: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(body)}\n\n"


def _token(one: TalkToken) -> dict[str, Any]:
    top = [_likely(text, logprob) for text, logprob in one.top]
    return _likely(one.text, one.logprob) | {"top_logprobs": top}


def _likely(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": max(LEAST_LOGPROB, logprob), "bytes": list(text.encode(errors="replace"))}
