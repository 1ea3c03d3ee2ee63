"""Which driving tokens a model knows: the files of bins and codes that lie in its folder, or that a recipe names.

A policy that learnt one codebook must never be read with another: the files travel with the weights, from the folder
that a run begins with to the policy that it leaves, and are compared by their hashes.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.driving.codec import SHIPPED_NAME, book_of
from data.errors import DataError
from data.tokens import bins as trajectory
from data.tokens import codebook as actions
from data.tokens.bins import Bins
from data.tokens.codebook import Codebook
from data.tokens.seal import located
from policies.errors import PolicyError
from policies.settings import HeadSettings

DUE_TOKENS = "policies.heads.sampling:DueTokens"
"""What vLLM's `logits_processors` is given."""
DUE_AT_ONCE = "driving_tokens_at_once"
"""Of a request's `extra_args` to vLLM: whether its answer begins with a plan; a request without it is left alone."""
FILES = (trajectory.FILE, actions.FILE)


@dataclass(frozen=True)
class Heads:
    """The tokens of a model."""

    bins: Bins | None = None
    book: Codebook | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """All of them, in the order in which they are added: waypoints before motions."""
        return (*(self.bins.words if self.bins else ()), *(self.book.words if self.book else ()))

    @property
    def hash(self) -> str:
        """What tells them apart from others."""
        return "-".join(one.hash for one in (self.bins, self.book) if one is not None)

    def write(self, folder: Path) -> None:
        """Keep them in a model's folder."""
        if self.bins is not None:
            self.bins.write(folder / trajectory.FILE, {})
        if self.book is not None:
            self.book.write(folder / actions.FILE, {})


def heads_in(folder: Path) -> Heads:
    """The tokens that the model of a folder knows; none where it holds no file of them.

    Raises:
        PolicyError: a file is damaged.
    """
    bins, book = (folder / name for name in FILES)
    try:
        return Heads(Bins.read(bins) if bins.is_file() else None, Codebook.read(book) if book.is_file() else None)
    except DataError as error:
        raise PolicyError(str(error)) from None


def heads_of(settings: HeadSettings | None, known: Heads = Heads()) -> Heads:  # noqa: B008  (frozen)
    """The tokens that a recipe names.

    Args:
        settings: `policy.heads`.
        known: those of the model, which stand in for a file that is gone: a policy outlives what it was made of.

    Raises:
        PolicyError: a file is missing or damaged.
    """
    if settings is None:
        return Heads()

    def stands_in(name: str, own: object) -> bool:
        return own is not None and name != SHIPPED_NAME and not located(name).is_file()

    try:
        bins, book = None, None
        if settings.trajectory:
            bins = known.bins if stands_in(settings.trajectory, known.bins) else Bins.read(located(settings.trajectory))
        if settings.actions:
            book = known.book if stands_in(settings.actions, known.book) else book_of(settings.actions)
        return Heads(bins, book)
    except DataError as error:
        raise PolicyError(f"policy.heads: {error}") from None


def check_same(model: str, there: Heads, wanted: Heads) -> None:
    """Check that what a recipe names is what a model learnt, where it learnt any.

    Raises:
        PolicyError: names the file and both hashes.
    """
    pairs = (("trajectory", there.bins, wanted.bins), ("actions", there.book, wanted.book))
    for name, known, asked in pairs:
        if known is not None and asked is not None and known.hash != asked.hash:
            raise PolicyError(
                f"policy.heads.{name} has the hash {asked.hash}, and {model} learnt tokens of {known.hash}: name the "
                "file in the model's folder"
            )


def check_codebooks(heads: HeadSettings | None, named: Mapping[str, Any]) -> None:
    """Check that data and environment speak the language that the policy learns.

    Args:
        heads: `policy.heads`.
        named: setting to the codebook that it names, where it names one.

    Raises:
        PolicyError: names the setting, and what to set instead.
    """
    for setting, codebook in named.items():
        if heads is None or heads.actions is None:
            raise PolicyError(f"{setting}={codebook} needs policy.heads.actions={codebook}: the model lacks its tokens")
        own = heads_of(heads).book
        try:
            other = book_of(str(codebook))
        except DataError as error:
            raise PolicyError(f"{setting}: {error}") from None
        if own is not None and own.hash != other.hash:
            raise PolicyError(
                f"{setting}={codebook} has the hash {other.hash}, and policy.heads.actions={heads.actions} has "
                f"{own.hash}: name the same codebook"
            )


def copy_files(source: str, folder: Path) -> None:
    """Put the files of a model's tokens beside weights that were learnt from it."""
    for name in FILES:
        if (Path(source) / name).is_file():
            shutil.copyfile(Path(source) / name, folder / name)
