"""Images out of requests: what is accepted is exact, everything else is refused with a sentence that names it."""

from __future__ import annotations

import base64
import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from serve.images import ImageRefused, decode_data_uri

MAX_PIXELS = 4_000_000


def data_uri(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def encoded(image: Image.Image, pillow_format: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, pillow_format)
    return buffer.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends where its pixels should begin: it costs 53 bytes to claim any size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    header = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return header + struct.pack(">I", 1000) + b"IDAT"


PICTURE = Image.effect_noise((64, 36), 80.0).convert("RGB")


def test_a_png_comes_back_pixel_by_pixel() -> None:
    image = decode_data_uri(data_uri(encoded(PICTURE)), "image 1", MAX_PIXELS)
    assert (image.mode, image.size) == ("RGB", (64, 36))
    assert image.tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize(("media_type", "pillow_format"), [("image/jpeg", "JPEG"), ("image/webp", "WEBP")])
def test_jpeg_and_webp_are_read_like_pillow_reads_them(media_type: str, pillow_format: str) -> None:
    data = encoded(PICTURE, pillow_format)
    image = decode_data_uri(data_uri(data, media_type), "image 1", MAX_PIXELS)
    assert image.tobytes() == Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def test_transparency_and_grey_become_rgb() -> None:
    for mode in ("RGBA", "L", "P", "1"):
        assert decode_data_uri(data_uri(encoded(PICTURE.convert(mode))), "image 1", MAX_PIXELS).mode == "RGB"


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data/",
        "https://example.com/front.jpg",
        "file:///etc/passwd",
        "/etc/passwd",
        "data:image/png,%89PNG",
        "",
    ],
)
def test_anything_that_would_have_to_be_fetched_is_refused(uri: str) -> None:
    with pytest.raises(ImageRefused, match=r"image 3 must be a data URI .* fetches nothing"):
        decode_data_uri(uri, "image 3", MAX_PIXELS)


def test_other_media_types_are_refused_and_the_accepted_ones_named() -> None:
    with pytest.raises(
        ImageRefused, match=r"image 1 is image/svg\+xml; accepted are image/jpeg, image/png, image/webp"
    ):
        decode_data_uri(data_uri(b"<svg/>", "image/svg+xml"), "image 1", MAX_PIXELS)


def test_the_media_type_must_be_true() -> None:
    with pytest.raises(ImageRefused, match="image 1 is no readable PNG image"):
        decode_data_uri(data_uri(encoded(PICTURE, "TIFF")), "image 1", MAX_PIXELS)


def test_bad_base64_is_refused() -> None:
    with pytest.raises(ImageRefused, match="image 1 is not valid base64"):
        decode_data_uri("data:image/png;base64,abc!def", "image 1", MAX_PIXELS)


@pytest.mark.parametrize("pillow_format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_refused(pillow_format: str) -> None:
    data = encoded(PICTURE, pillow_format)
    with pytest.raises(ImageRefused, match="image 2 is (truncated or damaged|no readable)"):
        decode_data_uri(data_uri(data[: len(data) // 2], f"image/{pillow_format.lower()}"), "image 2", MAX_PIXELS)


@pytest.mark.parametrize(("width", "height"), [(2001, 2000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_an_image_bomb_is_refused_by_its_header(width: int, height: int) -> None:
    # Had decoding begun, the file would be called truncated.
    with pytest.raises(ImageRefused, match=r"image 1 has (too many|\d+x\d+) pixels"):
        decode_data_uri(data_uri(png_header(width, height)), "image 1", MAX_PIXELS)


@given(st.binary(max_size=200), st.sampled_from(["image/png", "image/jpeg", "image/webp"]))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes, media_type: str) -> None:
    with pytest.raises(ImageRefused, match="image 1"):
        decode_data_uri(data_uri(data, media_type), "image 1", MAX_PIXELS)


@given(st.data())
def test_no_damaged_png_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    whole = bytearray(encoded(PICTURE))
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    with contextlib.suppress(ImageRefused):
        decode_data_uri(data_uri(bytes(whole)), "image 1", MAX_PIXELS)


@given(st.text(max_size=200))
def test_no_text_raises_anything_but_a_refusal(uri: str) -> None:
    with pytest.raises(ImageRefused, match="image 1"):
        decode_data_uri(uri, "image 1", MAX_PIXELS)


def test_pixels_are_read_as_in_training() -> None:
    grey = Image.fromarray(np.full((4, 8), 0x8080, np.uint16))
    assert decode_data_uri(data_uri(encoded(grey)), "image 1", MAX_PIXELS).getpixel((0, 0)) == (128, 128, 128)
    buffer, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    PICTURE.save(buffer, "JPEG", exif=exif)
    assert decode_data_uri(data_uri(buffer.getvalue(), "image/jpeg"), "image 1", MAX_PIXELS).size == (36, 64)
