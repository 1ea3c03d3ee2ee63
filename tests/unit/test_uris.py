"""Images by URI: from allowed places alone, kept on the machine within a bound, and used like files."""

from __future__ import annotations

import http.server
import io
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from data.faults import Faults
from data.images import ImageError, image_size, open_image
from data.jsonl import read_jsonl, record_of
from data.settings import DataSettings
from data.uris import LARGEST, VARIABLE, UriError, allow, environment, folder, is_uri, read_uri, refusal


@pytest.fixture(autouse=True)
def nothing_allowed_afterwards() -> Iterator[None]:
    yield
    os.environ.pop(VARIABLE, None)


def jpeg(size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, "JPEG")
    return buffer.getvalue()


def allowed(tmp_path: Path, *places: str, gib: float = 1.0) -> DataSettings:
    settings = DataSettings.model_validate({"uris": {"allowed": places, "cache": tmp_path / "cache", "cache_gib": gib}})
    allow(settings)
    return settings


def put(name: str, content: bytes) -> str:
    """A file in fsspec's file system of this process."""
    fsspec.filesystem("memory").pipe(f"/{name}", content)
    return f"memory://{name}"


def test_an_allowed_image_is_read_once_and_then_from_this_machine(tmp_path: Path) -> None:
    allowed(tmp_path, "memory://drives/")
    uri = put("drives/a.jpg", jpeg())
    assert image_size(uri) == (8, 6)
    fsspec.filesystem("memory").rm("/drives/a.jpg")
    assert open_image(uri).getpixel((0, 0)) == (254, 0, 0)


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("memory://elsewhere/a.jpg", "add memory://elsewhere/ to it if you trust that place"),
        ("memory://drives-of-others/a.jpg", "outside data.uris.allowed (memory://drives/)"),
        ("memory://drives/../secret.jpg", "has a part that is empty"),
        ("memory://drives/%2e%2e/secret.jpg", "has a part that is empty"),
        ("memory://drives/a.jpg?to=evil", "has a part that is empty"),
        ("https://memory://drives/a.jpg", "has a part that is empty"),
        ("https://drives@evil.example/a.jpg", "has a part that is empty"),
    ],
)
def test_what_is_not_allowed_is_not_asked(uri: str, said: str, tmp_path: Path) -> None:
    allowed(tmp_path, "memory://drives/")
    with pytest.raises(ImageError) as refused:
        open_image(uri)
    assert said in str(refused.value)


def test_without_a_list_nothing_is_allowed() -> None:
    assert "outside data.uris.allowed (nothing)" in (refusal("s3://bucket/a.jpg") or "")


@pytest.mark.parametrize("place", ["s3://", "bucket/folder", "https://user@host/x", "/mnt/images", "https://host/a b"])
def test_a_place_that_is_none_is_refused_with_the_recipe(place: str) -> None:
    with pytest.raises(ValueError, match="does not begin like s3://bucket/"):
        DataSettings.model_validate({"uris": {"allowed": [place]}})


def test_what_is_kept_stays_within_its_bound_and_the_least_used_falls_out(tmp_path: Path) -> None:
    settings = allowed(tmp_path, "memory://drives/", gib=10_000 / 2**30)
    uris = [put(f"drives/{number}", bytes(2000)) for number in range(10)]
    for turn, uri in enumerate(uris):
        read_uri(uri)
        read_uri(uris[0])
        for age, path in enumerate(sorted(folder(settings.uris).iterdir())):  # type: ignore[arg-type]
            assert age < 6
            if path.stat().st_mtime > 1e9:
                os.utime(path, (turn + 1, turn + 1))
    kept = list(folder(settings.uris).iterdir())  # type: ignore[arg-type]
    assert sum(path.stat().st_size for path in kept) <= 10_000
    fsspec.filesystem("memory").rm("/drives/0")
    assert read_uri(uris[0]) == bytes(2000)


def test_what_is_missing_too_large_or_no_image_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed(tmp_path, "memory://drives/")
    with pytest.raises(UriError, match=r"image memory://drives/none.jpg cannot be read: FileNotFoundError"):
        read_uri("memory://drives/none.jpg")
    with pytest.raises(ImageError, match="cannot be read as an image"):
        open_image(put("drives/text.jpg", b"text"))
    monkeypatch.setattr("data.uris.LARGEST", 10)
    with pytest.raises(UriError, match="MiB"):
        read_uri(put("drives/large.jpg", bytes(11)))
    assert LARGEST > 10


def test_a_redirection_leads_nowhere(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    class Redirecting(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked[self.path] += 1
            self.send_response(302)
            self.send_header("Location", "/secret.jpg")
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}/open/"
    allowed(tmp_path, place)
    with pytest.raises(ImageError, match="cannot be read"):
        open_image(f"{place}a.jpg")
    server.shutdown()
    server.server_close()
    assert set(asked) == {"/open/a.jpg"}


def test_samples_with_uris_are_admitted_unread_and_written_as_they_were(tmp_path: Path) -> None:
    allowed(tmp_path, "s3://bucket/drives/")
    images = [{"CAM_FRONT": "s3://bucket/drives/a.jpg"}, {"CAM_FRONT": "s3://other/a.jpg"}]
    lines = [
        {"id": str(i), "scene_id": "s", "task": "planning", "kind": "open_ended", "question": "Q?", "answer": "A"}
        | {"images": shown}
        for i, shown in enumerate(images)
    ]
    file = tmp_path / "samples.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    faults = Faults()
    (sample,) = read_jsonl(file, faults)
    assert sample.images == images[0]
    assert faults.dropped == {"faulty_image": ["1"]}
    assert record_of(sample, tmp_path)["images"] == images[0]


def test_what_is_allowed_reaches_other_processes_by_a_variable(tmp_path: Path) -> None:
    settings = allowed(tmp_path, "s3://bucket")
    assert environment(settings)[VARIABLE] == os.environ[VARIABLE]
    assert refusal("s3://bucket/a.jpg") is None
    allow(DataSettings())
    assert VARIABLE not in os.environ
    assert is_uri("hf://datasets/a/b.jpg")
    assert not is_uri("/mnt/a:b/c.jpg")
