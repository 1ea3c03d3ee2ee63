"""Settings of `serve/`: the policy endpoint."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ServeSettings(BaseModel):
    """The OpenAI-compatible endpoint of a run's policy."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    host: str = "127.0.0.1"
    """Address to listen on; loopback unless you mean it."""
    port: int = Field(8000, ge=1, le=65535)
    """HTTP port."""
    key_variable: str = "AUTODRIVERL_SERVE_KEY"
    """Environment variable that holds the bearer key every request must carry."""
    max_images: int = Field(6, ge=1)
    """Images allowed in one request."""
    max_tokens: int = Field(512, ge=1)
    """Cap of a request's `max_tokens`."""
    max_body_mib: float = Field(32.0, gt=0)
    """Largest request body."""
    max_megapixels: float = Field(16.0, gt=0)
    """Largest image, in millions of pixels; read from its header before anything is decoded."""
    max_concurrent: int = Field(16, ge=1)
    """Requests answered at once; a further one is refused with 429."""
    timeout_s: float = Field(120.0, gt=0)
    """Longest time one answer may take."""
