"""From what a client sent to a request that can be put on disk: fingerprint, body, images, and why it cannot be done.

A body is kept without its images, which are kept once each. Whatever is wrong with a request that has a number becomes
its failure, never a refused call: a number that a client used up is not sent again, and the next would wait for it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from typing import Any

from pydantic import ValidationError

from serve.errors import ServiceError, UserError
from serve.settings import ServeSettings
from serve.training.futures import Submission
from serve.training.messages import Message, Sample, sentence
from serve.training.prompts import StoredImage, check_image

NOT_COMPARED = ("sampling_session_seq_id",)
"""What a retried call may send anew: a retried ephemeral save counts its sampler again."""


def object_of(body: bytes) -> dict[str, Any]:
    """The JSON object of a body.

    Raises:
        ServiceError: 422, it is none.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise ServiceError(422, "the body is not valid JSON", "bad_body") from None
    if not isinstance(found, dict):
        raise ServiceError(422, "the body must be a JSON object", "bad_body")
    return found


def read(kind: type[Message], given: dict[str, Any]) -> Any:
    """A body that must be right at once.

    Raises:
        ServiceError: 422, what is wrong.
    """
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ServiceError(422, sentence(error), "bad_body") from None


def plain(kind: str, subject: str, seq: int, form: type[Message], given: dict[str, Any]) -> Submission:
    """A request in JSON without images."""
    fingerprint = fingerprint_of({key: value for key, value in given.items() if key not in NOT_COMPARED})
    try:
        body = form.model_validate(given).model_dump_json()
    except ValidationError as error:
        return Submission(kind, subject, seq, fingerprint, b"", failure=sentence(error))
    kept = {"type": kind, **json.loads(body)}
    learns = kind in ("optim_step", "load_weights")
    return Submission(kind, subject, seq, fingerprint, json.dumps(kept).encode(), learns=learns)


def forward_backward(message: Any, settings: ServeSettings) -> tuple[Submission, int, int]:
    """A forward_backward, and how many positions and images it has, where the client says so."""
    images, failure = dict[bytes, StoredImage](), None
    positions = shown = 0
    limit, most = int(settings.max_megapixels * 1e6), settings.training.max_datums
    if len(message.data) > most:
        failure = f"data has {len(message.data)} datums, and at most {most} are served at once: send them in parts"
    for place, datum in enumerate(message.data):
        for number, chunk in enumerate(datum.model_input):
            if chunk.WhichOneof("chunk") != "image":
                positions += len(chunk.encoded_text.tokens) // 4
                continue
            shown, positions = shown + 1, positions + chunk.image.expected_tokens
            data = chunk.image.data
            try:
                if data not in images and failure is None:
                    name = f"data[{place}].model_input.chunks[{number}]"
                    images[data] = check_image(data, chunk.image.format, name, limit)
            except UserError as error:
                failure = str(error)
            digest = images[data].digest if data in images else hashlib.sha256(data).hexdigest()
            chunk.image.data = digest.encode()
    body = message.SerializeToString(deterministic=True)
    submission = Submission(
        "forward_backward",
        message.model_id,
        message.seq_id,
        hashlib.sha256(body).hexdigest(),
        body,
        learns=not message.forward_only,
        images=tuple(images.values()) if failure is None else (),
        failure=failure,
    )
    return submission, positions, shown


def sampling(given: dict[str, Any], subject: str, seq: int, settings: ServeSettings) -> tuple[Submission, int, int]:
    """A sampling request, and how many tokens and images its prompt has."""
    fingerprint, images = fingerprint_of(given), dict[str, StoredImage]()
    try:
        asked: Sample = Sample.model_validate(given)
    except ValidationError as error:
        return Submission("asample", subject, seq, fingerprint, b"", failure=sentence(error)), 0, 0
    failure = None
    most, limit = settings.training.max_samples, int(settings.max_megapixels * 1e6)
    if asked.num_samples > most:
        failure = f"num_samples is {asked.num_samples}, and at most {most} are served in one request: ask several times"
    body = asked.model_dump(mode="json")
    tokens = 0
    for place, chunk in enumerate(body["prompt"]["chunks"]):
        if chunk["type"] != "image":
            tokens += len(chunk["tokens"])
            continue
        text = chunk.pop("data")
        try:
            if text not in images and failure is None:
                name = f"prompt.chunks[{place}]"
                images[text] = check_image(_decoded(text, name), chunk["format"], name, limit)
            chunk["digest"] = images[text].digest if text in images else ""
        except UserError as error:
            failure = str(error)
    kept = tuple(images.values()) if failure is None else ()
    made = Submission("asample", subject, seq, fingerprint, json.dumps(body).encode(), images=kept, failure=failure)
    return made, tokens, len(images)


def fingerprint_of(given: dict[str, Any]) -> str:
    """SHA-256 of a JSON object, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()


def _decoded(text: str, name: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{name}: data is not valid base64") from None
