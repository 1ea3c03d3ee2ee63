"""Structured logs: one JSON object a line, with the id of the request. Headers, bodies and keys are never logged."""

from __future__ import annotations

import contextvars
import json
import logging
import re
import sys
import time
import uuid
from typing import Any, TextIO

REQUEST_ID: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="")
SECRETS = re.compile(r"tml-[\w-]{8,}|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)|(?i:bearer\s+)[\w.-]{8,}")
"""Keys, and names with passwords in addresses, wherever a library may put them."""

log = logging.getLogger("autodriverl.service")


def new_request_id() -> str:
    """For a call that brings none."""
    return f"req-{uuid.uuid4().hex[:20]}"


def redact(text: str) -> str:
    """A text without secrets."""
    return SECRETS.sub("[redacted]", text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """`event` is the message; `extra={"about": {...}}` adds fields."""
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= getattr(record, "about", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return redact(json.dumps(line, default=str))


def write_logs(stream: TextIO = sys.stderr, level: int = logging.INFO) -> None:
    """Send the service's log to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    log.handlers[:] = [handler]
    log.setLevel(level)
    log.propagate = False


def tell(event: str, level: int = logging.INFO, **about: Any) -> None:
    """Log an event with fields."""
    log.log(level, event, extra={"about": about})
