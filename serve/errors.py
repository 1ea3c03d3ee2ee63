"""What cannot be served, and what the training service refuses, with the HTTP status that its clients act on."""

from __future__ import annotations

from typing import Any


class ServeError(RuntimeError):
    """A policy that cannot be served as asked; the message names the folder, field or variable and what to do."""


class ServiceError(Exception):
    """A refused call: a status, one sentence that names field and fix, and a short code.

    Tinker's clients retry 408, 409, 429 and 5xx by themselves, and give up at once on 401, 403, 404 and 422.
    """

    def __init__(self, status: int, message: str, code: str, *, retry_after_s: float | None = None) -> None:
        """`retry_after_s` becomes the `retry-after` header."""
        super().__init__(message)
        self.status, self.message, self.code, self.retry_after_s = status, message, code, retry_after_s

    def body(self, request_id: str) -> dict[str, Any]:
        """The JSON of the answer."""
        return {"detail": self.message, "code": self.code, "request_id": request_id}


class UserError(Exception):
    """A request that was accepted and cannot be done: its future fails with this sentence, in the category `user`."""
