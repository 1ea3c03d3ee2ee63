"""Corruptions of a clip of frames sent as video: H.265 at a low bit rate, and bit errors. PyAV only; opens no file.

A clip is first written as DriveBench writes it: an mp4 of 30 frames a second. Which encoder made theirs is not
published; here it is libx264 as ffmpeg sets it by default. What keeps the bytes the same:

* Every encoder and decoder runs in one thread: with more, rate control and the repair of damaged pictures depend on
  their number.
* libx264 runs as plain C. Its AVX-512 code for the macroblock tree (`mbtree_propagate_list_internal_avx512`) works on
  eight blocks at a time and does not mask those past the end of a row, so that memory which was never written decides
  about the picture. Its SSE and AVX code uses reciprocals that Intel and AMD round differently.
* libx265 writes no text about itself into the stream: that names the processor.
* Colours are converted exactly; ffmpeg's quick conversions differ between processors.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

import av
import numpy as np
from av.bitstream import BitStreamFilterContext
from av.video.frame import PictureType
from av.video.reformatter import Interpolation

from data.corruptions.image import Pixels
from data.errors import DataError

FRAMES_PER_SECOND = 30
SHORT_CLIP = 2
"""Frames of the longest clip in which no frame can stand between two others."""
LEAST_BIT_RATE = 1000
"""Bits a second; x265 counts in thousands of them."""

_SAME_EVERYWHERE = Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
_EXACT: Any = _SAME_EVERYWHERE | Interpolation.FULL_CHR_H_INT
"""Without the last, pictures come back 1.7 levels darker than they were."""
_X264 = {"x264-params": "asm=0"}
_X265 = "pools=none:frame-threads=1:info=0:log-level=none"

State = Literal["decoded", "damaged", "repeated"]
"""What became of a frame: decoded; decoded with damage that the decoder noticed, and filled by guessing; not decoded,
so that another frame stands in. What damage a frame inherits from those before it, no decoder notices."""


class NoFrames(DataError):
    """A clip without frames, which no video can be made of."""


@dataclass(frozen=True, slots=True)
class Video:
    """A clip as an mp4 file: `width` and `height` are those of its frames before they were made even."""

    data: bytes
    frames: int
    width: int
    height: int

    @property
    def bit_rate(self) -> int:
        """Bits a second of the whole file."""
        return len(self.data) * 8 * FRAMES_PER_SECOND // self.frames


def encode_clip(frames: Iterable[Pixels]) -> Video:
    """The frames as an mp4, by libx264; they are taken one by one. An odd side is made even by its last row or column.

    Raises:
        NoFrames: there is none.
        DataError: their sizes differ.
    """
    sizes: list[tuple[int, int]] = []

    def pictures() -> Iterator[av.VideoFrame]:
        for pixels in frames:
            height, width = pixels.shape[:2]
            sizes.append((width, height))
            if sizes[-1] != sizes[0]:
                raise DataError(f"a clip has frames of {sizes[0]} and of {sizes[-1]} pixels")
            even = np.pad(pixels, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(even, format="rgb24")
            yield picture.reformat(format="yuv420p", interpolation=_EXACT, threads=1)

    data = _encode(pictures(), "libx264", _X264, None)
    return Video(data, len(sizes), *sizes[0])


def compress(video: Video, *, bit_rate_divisor: int) -> Video:
    """The video again, by libx265, at its bit rate divided by `bit_rate_divisor`: as mean and as highest rate."""
    bit_rate = max(video.bit_rate // bit_rate_divisor, LEAST_BIT_RATE)
    options = {"maxrate": str(bit_rate), "bufsize": str(bit_rate)}
    options["x265-params"] = _X265
    if video.frames <= SHORT_CLIP:  # x265 takes the times of reordered frames from pictures that never come
        options["x265-params"] += ":bframes=0"
    data = _encode(_pictures(video), "libx265", options, bit_rate)
    return Video(data, video.frames, video.width, video.height)


def damage(video: Video, seed: int, *, amount: int) -> tuple[Video, int]:
    """The video with about one byte in `amount` overwritten in its pictures, and how many bytes that were.

    ffmpeg's bitstream filter `noise` adds up the bytes and strikes whenever `amount` divides the sum. It has no seed
    and begins at 0: a first packet, which is thrown away, takes the sum to where the seed says.
    """
    sent = io.BytesIO()
    struck = 0
    start = seed % amount
    # The filter adds value + 1 for every byte.
    primer = b"\xff" * (start // 256) + (bytes([start % 256 - 1]) if start % 256 else b"")
    with av.open(io.BytesIO(video.data), "r") as source, av.open(sent, "w", format="mp4") as target:
        stream = source.streams.video[0]
        copy = target.add_stream_from_template(stream)
        noise = BitStreamFilterContext(f"noise={amount}", stream)
        if primer:
            noise.filter(av.Packet(primer))
        for packet in source.demux(stream):
            if packet.size == 0:
                continue
            clean = np.frombuffer(bytes(packet), np.uint8)
            for noisy in noise.filter(packet):
                struck += int(np.count_nonzero(clean != np.frombuffer(bytes(noisy), np.uint8)))
                noisy.stream = copy
                target.mux(noisy)
    return Video(sent.getvalue(), video.frames, video.width, video.height), struck


def decode_clip(video: Video) -> Iterator[tuple[Pixels, State]]:
    """All frames of the video in order, in the size they had before they were encoded.

    A frame that cannot be decoded any more shows the last one that could; before the first of them, the first; where
    there is none at all, black.
    """
    shown = np.zeros((video.height, video.width, 3), np.uint8)
    due = 0
    for picture in _pictures(video):
        index = round((picture.pts or 0) * (picture.time_base or Fraction(1)) * FRAMES_PER_SECOND)
        if not due <= index < video.frames:
            continue  # a damaged stream may send a picture late, when its place is already taken
        rgb = picture.to_ndarray(format="rgb24", interpolation=_EXACT, threads=1)
        pixels = np.asarray(rgb, np.uint8)[: video.height, : video.width]
        shown = pixels if due == 0 else shown
        for _ in range(due, index):
            yield shown, "repeated"
        shown, due = pixels, index + 1
        yield shown, "damaged" if picture.is_corrupt else "decoded"
    for _ in range(due, video.frames):
        yield shown, "repeated"


def _encode(frames: Iterable[av.VideoFrame], codec: str, options: dict[str, str], bit_rate: int | None) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as target:
        stream = target.add_stream(codec, rate=FRAMES_PER_SECOND, options=options)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        index = -1
        for index, frame in enumerate(frames):
            if index == 0:
                stream.width, stream.height = frame.width, frame.height
            frame.pts, frame.time_base = index, Fraction(1, FRAMES_PER_SECOND)
            frame.pict_type = PictureType.NONE  # a decoded picture would impose its own type on the encoder
            target.mux(stream.encode(frame))
        if index < 0:
            raise NoFrames("a clip without frames cannot be made a video")
        target.mux(stream.encode())
    return buffer.getvalue()


def _pictures(video: Video) -> Iterator[av.VideoFrame]:
    with av.open(io.BytesIO(video.data), "r") as source:
        stream = source.streams.video[0]
        stream.codec_context.thread_count = 1
        # Guessed parts are shown, as ffmpeg's command line does.
        stream.codec_context.flags |= av.codec.context.Flags.output_corrupt
        for packet in source.demux(stream):
            try:
                pictures = stream.decode(packet)
            except av.FFmpegError:
                continue  # nothing in this packet can be read: its frame is missing, and `decode_clip` says so
            yield from pictures
