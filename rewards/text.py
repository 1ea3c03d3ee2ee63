"""BLEU and ROUGE_L of one answer against its ground truth, from sacrebleu and rouge-score, on words of every script.

Not the figures of the DriveLM challenge: those come from pycocoevalcap and are a matter of `evaluation`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from data.reading.words import spaced, words


def bleu(text: str, truth: str) -> float:
    """sacrebleu's sentence BLEU, 0-100: 13a tokens, exponential smoothing, effective order (short answers).

    Scripts without spaces are cut into characters first, as by sacrebleu's `zh` tokens.
    """
    import sacrebleu

    found = sacrebleu.sentence_bleu(spaced(text), [spaced(truth)])
    return min(100.0, float(found.score))  # rounding can exceed 100 by 1e-14


def rouge_l(text: str, truth: str) -> float:
    """rouge-score's ROUGE-L F-measure, 0-100, on `data.reading.words`: for ASCII text its own, unstemmed."""
    return min(100.0, 100.0 * float(_rouge().score(truth, text)["rougeL"].fmeasure))


@cache
def _rouge() -> Any:
    from rouge_score import rouge_scorer, tokenizers  # here: it brings nltk and scipy, a second of every start

    class Words(tokenizers.Tokenizer):
        """Hands rouge-score our words; its own are runs of a to z and digits alone."""

        def tokenize(self, text: str) -> list[str]:
            """The words of `rewards.words`."""
            return words(text)

    return rouge_scorer.RougeScorer(["rougeL"], tokenizer=Words())
