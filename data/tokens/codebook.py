"""`Codebook`: short motions as tokens. Segments of driving are clustered, and each cluster's middle is a code.

DriveRX-VLA clusters with k-means into 2,048 codes; here by scikit-learn's `MiniBatchKMeans`, after each number of a
segment was given a weight, so that ten centimetres and what steers ten centimetres off count alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data.errors import DataError
from data.tokens.seal import digest, read_sealed, write_sealed
from data.tokens.segments import INTERVAL_S, Segment
from data.tokens.words import Unreadable, action_word, read_action

Floats = NDArray[np.float64]
KIND = "action codebook"
FILE = "action_codebook.json"
"""Its name in a model's folder."""
CODES = 2048
"""Of DriveRX-VLA."""
WEIGHTS = (1.0, 2.0, 8.0, 0.3, 0.4, 0.4)
"""What one unit of each number of a segment counts, in metres: a metre aside 2 m, a radian 8 m (its steering is
felt for seconds), the whole of a pedal 0.4 m."""
NEAR_M = 0.1
"""A motion is covered where its code ends within this distance of it."""


@dataclass(frozen=True)
class CodebookErrors:
    """What is lost when segments become codes."""

    position_m: float
    """Mean distance, after half a second, between where a segment ended and where its code does."""
    worst_m: float
    """The largest of them."""
    turned_deg: float
    """Mean difference of the heading, degrees."""
    covered: float
    """Share of the segments whose code ends within `NEAR_M`."""
    used: float
    """Share of the codes that some segment has."""


@dataclass(frozen=True)
class Codebook:
    """The motions that tokens stand for."""

    codes: tuple[Segment, ...]

    @classmethod
    def fit(cls, segments: Iterable[Segment], count: int = CODES, seed: int = 0) -> tuple[Codebook, dict[str, int]]:
        """A codebook of some segments, and how many of those were left out, by reason.

        Raises:
            DataError: fewer segments that differ are usable than there are to be codes.
        """
        left_out: Counter[str] = Counter()
        usable: list[Segment] = []
        for segment in segments:
            if (fault := segment.fault) is not None:
                left_out[fault[0]] += 1
            else:
                usable.append(segment)
        if len(set(usable)) < count:
            counted = "".join(f", {number} {reason}" for reason, number in left_out.items())
            raise DataError(
                f"{count} codes need as many segments that differ, and there are {len(set(usable))} of {len(usable)}"
                f"{counted}: record more driving, or ask for fewer codes"
            )
        from sklearn.cluster import MiniBatchKMeans  # takes a second to import, and only fitting needs it

        means = MiniBatchKMeans(count, random_state=seed, n_init=3, batch_size=4096, max_iter=200)
        centres = means.fit(_weighed(usable)).cluster_centers_ / np.array(WEIGHTS)
        order = np.lexsort((centres[:, 1], centres[:, 0]))  # slow before fast, so that neighbours resemble each other
        rows = [[round(float(number), 4) for number in centre] for centre in centres[order]]
        return cls(tuple(Segment(*row) for row in rows)), dict(left_out)

    @property
    def hash(self) -> str:
        """What tells two of them apart."""
        return digest(self._content())

    @property
    def words(self) -> tuple[str, ...]:
        """The tokens."""
        return tuple(map(action_word, range(len(self.codes))))

    def nearest(self, segments: Sequence[Segment]) -> list[int]:
        """The code of each segment."""
        found = list[int]()
        for first in range(0, len(segments), 1024):
            given_N_6 = _weighed(segments[first : first + 1024])
            distance_N_K = ((given_N_6[:, None] - self._weighed_K_6) ** 2).sum(axis=-1)
            found += [int(code) for code in distance_N_K.argmin(axis=1)]
        return found

    def encode(self, segment: Segment) -> str:
        """The token of a segment.

        Raises:
            DataError: the segment holds a number that is not finite, or a gap.
        """
        if (fault := segment.fault) is not None:
            raise DataError(f"this motion has no token: {fault[1]}")
        return action_word(self.nearest([segment])[0])

    def decode(self, text: str) -> Segment | Unreadable:
        """The motion that an answer names, or why there is none."""
        code = read_action(text, len(self.codes))
        return code if isinstance(code, Unreadable) else self.codes[code]

    def errors(self, segments: Sequence[Segment]) -> CodebookErrors:
        """What is lost on segments, best on such as it was not fitted on.

        Raises:
            DataError: none is usable.
        """
        usable = [segment for segment in segments if segment.fault is None]
        if not usable:
            raise DataError("no segment is usable: there is no error to tell")
        chosen = self.nearest(usable)
        given_N_6 = np.array([astuple(one) for one in usable])
        back_N_6 = np.array([astuple(self.codes[code]) for code in chosen])
        apart_N = np.hypot(*(given_N_6 - back_N_6)[:, :2].T)
        return CodebookErrors(
            position_m=float(apart_N.mean()),
            worst_m=float(apart_N.max()),
            turned_deg=float(np.degrees(np.abs((given_N_6 - back_N_6)[:, 2])).mean()),
            covered=float((apart_N <= NEAR_M).mean()),
            used=len(set(chosen)) / len(self.codes),
        )

    def write(self, path: Path, about: dict[str, Any]) -> None:
        """Keep it; `about` says what it was fitted on, and what that lost."""
        write_sealed(path, KIND, self._content(), about)

    @classmethod
    def read(cls, path: Path) -> Codebook:
        """That of a file.

        Raises:
            DataError: as `read_sealed`, or its codes are no segments of half a second.
        """
        content, _ = read_sealed(path, KIND)
        if content.get("interval_s") != INTERVAL_S:
            raise DataError(
                f"{path} has codes of {content.get('interval_s')} s, and a policy decides every half second"
            )
        return cls(tuple(Segment(*map(float, code)) for code in content["codes"]))

    def _content(self) -> dict[str, Any]:
        return {"interval_s": INTERVAL_S, "codes": [list(astuple(code)) for code in self.codes]}

    @cached_property
    def _weighed_K_6(self) -> Floats:
        return _weighed(self.codes)


def _weighed(segments: Sequence[Segment]) -> Floats:
    return np.array([astuple(segment) for segment in segments], dtype=np.float64) * np.array(WEIGHTS)
