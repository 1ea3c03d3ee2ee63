"""What cannot be served, and what a server refuses, with the HTTP status that its clients act on."""

from __future__ import annotations

from typing import Any

OPENAI_PREFIX = "/v1/"
"""Below it answers have OpenAI's shape, elsewhere Tinker's."""
OPENAI_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    429: "rate_limit_error",
}


class ServeError(RuntimeError):
    """A policy that cannot be served as asked; the message names the folder, field or variable and what to do."""


class ServiceError(Exception):
    """A refused call: a status, one sentence that names field and fix, and a short code.

    Tinker's clients retry 408, 409, 429 and 5xx by themselves, and give up at once on 401, 403, 404 and 422.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        parameter: str | None = None,
        *,
        retry_after_s: float | None = None,
    ) -> None:
        """`parameter` is the dotted place in the request that is wrong; `retry_after_s` becomes a header."""
        super().__init__(message)
        self.status, self.message, self.code = status, message, code
        self.parameter, self.retry_after_s = parameter, retry_after_s

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON of the answer, as Tinker's clients read it."""
        return {"detail": self.message, "code": self.code or "refused", "request_id": request_id}

    def openai_body(self) -> dict[str, Any]:
        """The error object as OpenAI's clients read it."""
        kind = OPENAI_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.parameter, "code": self.code}}

    def body_for(self, path: str, request_id: str) -> dict[str, Any]:
        """The JSON of the answer in the shape that the clients of this path read."""
        return self.openai_body() if path.startswith(OPENAI_PREFIX) else self.body(request_id)

    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        found = {} if self.retry_after_s is None else {"retry-after": str(max(1, round(self.retry_after_s)))}
        return found | ({"www-authenticate": "Bearer"} if self.status == 401 else {})


class UserError(Exception):
    """A request that was accepted and cannot be done: its future fails with this sentence, in the category `user`."""
