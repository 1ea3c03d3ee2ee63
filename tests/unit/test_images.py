from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from data.images import ImageError, check_image, faulty_images, image_size, open_image
from data.sample import CAMERAS, DrivingSample


def write_image(path: Path, size: tuple[int, int] = (160, 90), mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = Image.effect_noise(size, 80).convert(mode)  # noise: every byte of the file carries picture
    noise.save(path)
    return path


def truncate(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


@pytest.fixture
def sample(tmp_path: Path) -> DrivingSample:
    images: dict[str, str] = {camera: str(write_image(tmp_path / f"{camera}.jpg")) for camera in CAMERAS}
    return DrivingSample("s_f_0", "s", "f", "planning", "yes_no", "Is it?", "Yes.", images)


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "L"), ("png", "RGBA"), ("png", "P"), ("jpg", "RGB")])
def test_any_image_is_read_as_rgb(tmp_path: Path, suffix: str, mode: str) -> None:
    image = open_image(write_image(tmp_path / f"a.{suffix}", mode=mode))
    assert (image.mode, image.size) == ("RGB", (160, 90))


@pytest.mark.parametrize("read", [open_image, check_image])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_image_is_refused_by_name(tmp_path: Path, read: object, suffix: str, share: float) -> None:
    path = truncate(write_image(tmp_path / f"cut.{suffix}", size=(640, 360)), share)
    with pytest.raises(ImageError, match=rf"cut\.{suffix} is truncated or damaged"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("read", [open_image, check_image])
def test_a_missing_file_a_folder_and_a_text_file_are_refused_by_name(tmp_path: Path, read: object) -> None:
    (tmp_path / "notes.jpg").write_text("not an image")
    (tmp_path / "empty.jpg").touch()
    for name, reason in [
        ("gone.jpg", "does not exist or is not a file"),
        ("", "does not exist or is not a file"),
        ("notes.jpg", "cannot be read as an image"),
        ("empty.jpg", "cannot be read as an image"),
    ]:
        with pytest.raises(ImageError, match=reason) as caught:
            read(tmp_path / name)  # type: ignore[operator]
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_an_image_over_the_pixel_cap_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = truncate(write_image(tmp_path / "bomb.png", size=(300, 200)), 0.5)
    with pytest.raises(ImageError, match=r"bomb\.png .*300x200 .*50000"):
        open_image(path, max_pixels=50_000)


def test_a_small_file_that_claims_billions_of_pixels_is_refused(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(999))))
    with pytest.raises(ImageError, match=r"bomb\.png has more than the \d+ pixels"):
        open_image(path)


def test_checking_many_images_reports_only_the_broken_ones(sample: DrivingSample) -> None:
    broken = str(truncate(Path(sample.images["CAM_FRONT"])))
    assert list(faulty_images([*sample.images.values(), broken])) == [broken]


# --- what the pixels say ----------------------------------------------------------------------------------------------

RAMP = np.linspace(0, 1, 64).reshape(8, 8)


@pytest.mark.parametrize(
    ("pixels", "suffix"),
    [
        ((RAMP * 65535).astype(np.uint16), "png"),
        ((RAMP * 65535).astype(np.uint16), "tiff"),
        ((RAMP * 65535).astype(np.uint16), "ppm"),
        ((RAMP * 65535).astype(np.int32), "tiff"),
        ((RAMP * 255).astype(np.int32), "tiff"),
        (RAMP.astype(np.float32), "tiff"),
        ((RAMP * 255).astype(np.float32), "tiff"),
        ((RAMP * 65535).astype(np.float32), "tiff"),
        ((RAMP * 255).astype(np.uint8), "png"),
    ],
)
def test_grey_of_any_depth_keeps_its_tones(tmp_path: Path, pixels: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(pixels).save(path)
    check_image(path)
    found = np.asarray(open_image(path)).astype(int)
    assert np.abs(found - (RAMP * 255)[..., None]).max() <= 1


@pytest.mark.parametrize("read", [open_image, check_image])
@pytest.mark.parametrize("value", [float("nan"), -1.0, 70_000.0])
def test_grey_values_that_no_picture_has_are_refused_by_name(tmp_path: Path, read: object, value: float) -> None:
    path = tmp_path / "depth.tiff"
    Image.fromarray(np.full((4, 4), value, np.float32)).save(path)
    with pytest.raises(ImageError, match=r"depth\.tiff has grey values from .*: save it with 8 or 16 bits"):
        read(path)  # type: ignore[operator]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_its_exif_says(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, exif = tmp_path / f"turned.{suffix}", Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (32, 16))
    image.paste("white", (0, 0, 8, 8))
    image.save(path, exif=exif)
    with Image.open(path) as stored:
        expected = ImageOps.exif_transpose(stored).convert("RGB")
    found = open_image(path)
    assert image_size(path) == found.size == expected.size == ((16, 32) if orientation > 4 else (32, 16))
    assert np.array_equal(np.asarray(found), np.asarray(expected))


def test_a_broken_exif_block_costs_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "odd.jpg"
    Image.new("RGB", (32, 16)).save(path, exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff")
    assert open_image(path).size == image_size(path) == (32, 16)
