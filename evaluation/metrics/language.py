"""Corpus BLEU-1..4, ROUGE_L and CIDEr as COCO's caption evaluation computes them, for one reference an answer.

The figures of pycocoevalcap 1.2 to 1e-9, computed for all pairs at once: that package holds every n-gram of the corpus
as a Python tuple and takes minutes and gigabytes for 100,000 pairs. Its tokeniser's Java is not needed (`ptb`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.metrics.ptb import captions

ORDERS = 4
"""n-grams of one to four tokens."""
ROUGE_BETA = 1.2
CIDER_SIGMA = 6.0
_SMALL, _TINY = 1e-9, 1e-15
"""What the BLEU of COCO's evaluation adds below and above the fraction bar: with no match at all it is not quite 0."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LanguageScores:
    """BLEU-1..4 and ROUGE_L in [0, 1], CIDEr in [0, 10]."""

    bleu: tuple[float, float, float, float]
    rouge_l: float
    cider: float


def language_scores(answers: Sequence[str], references: Sequence[str]) -> LanguageScores:
    """The corpus scores of answers against one reference each, on PTB tokens.

    An answer that is empty, or nothing but punctuation, is scored like any other; against such a reference its ROUGE_L
    is 1, as the reference implementation has it.

    Raises:
        ValueError: there is no pair, or the two differ in number.
    """
    if not answers or len(answers) != len(references):
        raise ValueError(f"language scores need pairs, got {len(answers)} answers and {len(references)} references")
    found, true = captions(answers), captions(references)
    rouge = float(np.mean([rouge_l(a, b) for a, b in zip(found, true, strict=True)]))
    bleu, cider = _bleu_and_cider(found, true)
    return LanguageScores(bleu, rouge, cider)


# --- ROUGE_L ----------------------------------------------------------------------------------------------------------


def rouge_l(answer: str, reference: str) -> float:
    """The F-measure (beta 1.2) of the longest common subsequence of two tokenised texts."""
    a, b = answer.split(" "), reference.split(" ")
    common = _common_subsequence(a, b)
    if not common:
        return 0.0
    precision, recall = common / len(a), common / len(b)
    return (1 + ROUGE_BETA**2) * precision * recall / (recall + ROUGE_BETA**2 * precision)


def _common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """The length of the longest common subsequence, a row of the table at a time as bits (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, token in enumerate(a):
        places[token] = places.get(token, 0) | 1 << place
    all_places = (1 << len(a)) - 1
    row = all_places
    for token in b:
        matches = row & places.get(token, 0)
        row = (row + matches | row - matches) & all_places
    return len(a) - row.bit_count()


# --- BLEU and CIDEr ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Counts:
    """The distinct n-grams of one order in the answers, or in the references: entries by pair, then by n-gram."""

    pair: Ints
    gram: Ints
    """A number below `vocabulary`, the same on both sides."""
    count: Ints
    vocabulary: int

    def __getitem__(self, chosen: NDArray[np.bool_] | Ints) -> _Counts:
        return _Counts(self.pair[chosen], self.gram[chosen], self.count[chosen], self.vocabulary)

    @property
    def key(self) -> Ints:
        return self.pair * self.vocabulary + self.gram


def _order_counts(texts: Sequence[str], lengths: Ints) -> Iterator[tuple[_Counts, _Counts]]:
    """The counts of the answers and of the references for each order.

    Args:
        texts: the answers and, after them, the references.
        lengths: how many words each text has.
    """
    known: dict[str, int] = {}
    words = (word for text in texts for word in text.split())
    ids = np.fromiter((known.setdefault(word, len(known)) for word in words), np.int64, int(lengths.sum()))
    text = np.repeat(np.arange(len(texts)), lengths)
    words_left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(ids))
    gram, vocabulary, pairs = ids, max(len(known), 1), len(texts) // 2
    for order in range(1, ORDERS + 1):
        if order > 1:
            # An n-gram is one that is a word shorter and a word; both are numbers, so that two numbers make one.
            _, gram = np.unique(gram[:-1] * max(len(known), 1) + ids[order - 1 :], return_inverse=True)
            vocabulary = int(gram.max(initial=0)) + 1
        inside = words_left[: len(gram)] >= order
        key, count = np.unique(text[: len(gram)][inside] * vocabulary + gram[inside], return_counts=True)
        of_text, of_gram = np.divmod(key, vocabulary)
        answers = of_text < pairs
        both = _Counts(of_text % pairs, of_gram, count, vocabulary)
        yield both[answers], both[~answers]


def _bleu_and_cider(answers: list[str], references: list[str]) -> tuple[tuple[float, float, float, float], float]:
    texts = [*answers, *references]
    lengths = np.array([len(text.split()) for text in texts], np.int64)
    found, true = lengths[: len(answers)], lengths[len(answers) :]
    product, bleu, cider = 1.0, [], 0.0
    for order, (of_answers, of_references) in enumerate(_order_counts(texts, lengths), start=1):
        at, also = _shared(of_answers, of_references)
        correct = int(np.minimum(of_answers.count[at], of_references.count[also]).sum())
        product *= (correct + _TINY) / (int(np.maximum(found - order + 1, 0).sum()) + _SMALL)
        bleu.append(product ** (1 / order))
        cider += float(_cosines(of_answers, of_references, at, also, found, true).mean()) / ORDERS
    ratio = (int(found.sum()) + _TINY) / (int(true.sum()) + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    first, second, third, fourth = (value * brevity for value in bleu)
    return (first, second, third, fourth), 10 * cider


def _shared(answers: _Counts, references: _Counts) -> tuple[Ints, Ints]:
    """Where the n-grams that an answer shares with its reference stand on either side."""
    keys, true_keys = answers.key, references.key
    place = np.searchsorted(true_keys, keys)
    inside = place < len(true_keys)
    inside[inside] = true_keys[place[inside]] == keys[inside]
    return np.flatnonzero(inside), place[inside]


def _cosines(answers: _Counts, references: _Counts, at: Ints, also: Ints, found: Ints, true: Ints) -> Floats:
    """CIDEr-D of one order for each pair: cosine of the tf-idf vectors, clipped, with a penalty on the lengths.

    The penalty compares numbers of bigrams whatever the order, as the reference implementation does.
    """
    pairs = len(found)
    frequency = np.bincount(references.gram, minlength=answers.vocabulary)
    rarity = math.log(pairs) - np.log(np.maximum(frequency, 1))
    mine, theirs = answers.count * rarity[answers.gram], references.count * rarity[references.gram]
    norms = np.sqrt(np.bincount(answers.pair, mine**2, pairs)) * np.sqrt(np.bincount(references.pair, theirs**2, pairs))
    dot = np.bincount(answers.pair[at], np.minimum(mine[at], theirs[also]) * theirs[also], pairs)
    apart = np.maximum(found - 1, 0) - np.maximum(true - 1, 0)
    cosine: Floats = np.divide(dot, norms, out=np.zeros(pairs), where=norms != 0)
    return cosine * np.exp(-(apart**2) / (2 * CIDER_SIGMA**2))
